"""A list keeps what it names, whatever kind of file it is."""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curation.errors import InputError
from curation.filters import make_filter
from curation.filters.selected import Selected
from curation.testing.filter_contract import ReadyMadeContract

A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def keys() -> Path:
    file = Path(tempfile.mkdtemp()) / "keys.parquet"
    pl.DataFrame({"key": ["1", None], "sha256": [A, None]}).write_parquet(file)
    return file


class TestSelected(ReadyMadeContract):
    member = Selected

    @pytest.fixture(autouse=True)
    def _keys(self, keys: Path) -> None:
        self.file = keys

    def calls(self) -> list[str]:
        return [f"selected({str(self.file)!r})"]

    def wrong_calls(self) -> list[str]:
        return ["selected(5)", "selected()"]

    def kept(self) -> dict[str, object]:
        return {"sha256": A}

    def dropped(self) -> list[dict[str, object]]:
        return [{"sha256": B}, {"sha256": None}]


def test_another_content_of_the_list_is_another_filter(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text("key\na\n")
    expression = f"not listed(key, '{file}', 'key')"
    before = make_filter(expression).fingerprint()
    assert make_filter(expression).fingerprint() == before
    file.write_text("key\nb\nc\n")
    assert make_filter(expression).fingerprint() != before


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("listed(key, 'keys.csv', 'key')", "absolute path"),
        ("listed(key, '/nowhere/keys.csv', 'key')", "no such file"),
    ],
)
def test_a_list_that_is_not_there_is_told_before_anything_runs(
    call: str, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        make_filter(call).check({"key": "text"})


def test_the_lists_of_datacomp_are_read(tmp_path: Path) -> None:
    uids = ["0" * 15 + "1" + "f" * 16, "ab" * 16]
    halves = [(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids]
    np.save(tmp_path / "uids.npy", np.array(halves, np.dtype("u8,u8")))
    filter_ = make_filter(f"listed(key, '{tmp_path / 'uids.npy'}', 'uid')")
    filter_.check({"key": "text"})
