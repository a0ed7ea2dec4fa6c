"""The new key in metadata: nothing else changes, and nothing is lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.release.json_key import MOST_BYTES, with_new_key

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text() | st.sampled_from(["key", "release_source"]), VALUES)
SOURCE = {"shard": "a", "key": "7", "ranges": [[0, 512]]}


@given(OBJECTS, st.sampled_from([None, 2]), st.booleans())
def test_all_values_stay_and_two_are_new(
    values: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode(
        errors="surrogatepass"
    )
    told = json.loads(with_new_key(data, "000010000", SOURCE)) if _is_utf8(data) else {}
    if not told:
        return
    replaced = {k: v for k, v in values.items() if k in ("key", "release_source")}
    expected = {**SOURCE, "replaced": replaced} if replaced else SOURCE
    assert told.pop("key") == "000010000"
    assert repr(told.pop("release_source")) == repr(expected)
    rest = {k: v for k, v in values.items() if k not in replaced}
    assert repr(told) == repr(rest)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_values_keep_their_text() -> None:
    data = b'{ "a" : 1.10, "b":1E400,"\\u0063": "\\u00e9", "n": 123456789012345678901}'
    told = with_new_key(data, "k", {})
    assert told == (
        b'{ "a" : 1.10, "b":1E400,"\\u0063": "\\u00e9", "n": 123456789012345678901, '
        b'"key": "k", "release_source": {}}'
    )


@pytest.mark.parametrize(
    "odd",
    [
        "NaN",
        "1e400",
        "9" * 5000,
        '"\\ud800"',
        "[" * 5000 + "]" * 5000,
        '{"a": ' * 5000 + "1" + "}" * 5000,
    ],
    ids=lambda odd: odd[:12],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_odd_value_and_a_byte_order_mark_stay_as_they_are(odd: str, mark: str) -> None:
    told = with_new_key(f'{mark}{{"x": {odd}}}'.encode(), "k", {}).decode()
    assert told == f'{mark}{{"x": {odd}, "key": "k", "release_source": {{}}}}'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_members_give_way_beside_odd_values(mark: str) -> None:
    odd = f'"x": {"9" * 5000}, "y": NaN'
    told = with_new_key(f'{mark}{{"key": 1, {odd}}}'.encode(), "k", {"s": 2}).decode()
    source = '{"s": 2, "replaced": {"key": 1}}'
    assert told == f'{mark}{{{odd}, "key": "k", "release_source": {source}}}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"{",
        b'{"a": 1',
        b'{"a": 1}}',
        b'{"a": 1,}',
        b'{"a" 1}',
        b"{'a': 1}",
        b"{1: 2}",
        b'{"a": \xff}',
        b"[" * 200_000,
        b'{"a": ' + b"[" * 200_000,
        b'{"a": "' + b"x" * MOST_BYTES + b'"}',
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_object_stays_as_it_is(data: bytes) -> None:
    assert with_new_key(data, "k", SOURCE) is data


def test_an_empty_object_has_only_the_new_members() -> None:
    assert json.loads(with_new_key(b" {} \n", "k", SOURCE)) == {
        "key": "k",
        "release_source": SOURCE,
    }
