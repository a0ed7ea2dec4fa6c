"""Fingerprints are equal for equal content, and for nothing else."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import NotFoundError
from curation.fingerprint import file_sha256, fingerprint
from tests.conftest import ROOT

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


@given(json_values, json_values)
def test_equal_values_and_only_those_are_equal(one: object, other: object) -> None:
    same = canonical(one) == canonical(other)
    assert (fingerprint(one) == fingerprint(other)) == same  # type: ignore[arg-type]


@given(st.dictionaries(st.text(), json_values, min_size=2))
def test_the_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert fingerprint(turned) == fingerprint(value)  # type: ignore[arg-type]


def test_the_order_and_the_bounds_of_parts_count() -> None:
    variants = [
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        ("a", "b", ""),
        (["a", "b"],),
        ("a", ["b"]),
    ]
    assert len({fingerprint(*parts) for parts in variants}) == len(variants)


def test_numbers_are_told_from_text_and_from_truth() -> None:
    values = [1, "1", 1.5, "1.5", True, "true", None, "null"]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_it_is_the_hash_that_other_programs_find() -> None:
    text = b'["embeddings",1,{"a":"\\u00fc","b":[1,2.5]}]'
    expected = hashlib.sha256(text).hexdigest()[:32]
    assert fingerprint("embeddings", 1, {"b": [1, 2.5], "a": "ü"}) == expected


def test_another_process_finds_the_same() -> None:
    code = (
        "from curation.fingerprint import fingerprint as f; print(f('x', {'b': 1, 'a': 2}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.strip() == fingerprint("x", {"a": 2, "b": 1})


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        fingerprint({1, 2})  # type: ignore[arg-type]
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            fingerprint([number])


def test_a_files_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    data = os.urandom(1 << 20)
    file.write_bytes(data)
    assert file_sha256(file) == hashlib.sha256(data).hexdigest()
    assert file_sha256(str(file)) == file_sha256(file)


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"old")
    before = file_sha256(file)
    file.write_bytes(b"new")
    os.utime(file, ns=(1, 1))  # as long, and changed at another time
    assert file_sha256(file) == hashlib.sha256(b"new").hexdigest() != before


def test_a_missing_file_and_a_folder_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(NotFoundError, match=str(path)):
            file_sha256(path)
