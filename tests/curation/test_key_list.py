"""Lists are read from files of any kind, and uids are DataComp's."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.key_list import read_list, uid_array

UIDS = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(st.lists(UIDS, unique=True))
def test_uids_are_sorted_as_numbers_of_two_halves(uids: list[str]) -> None:
    found = [(int(high) << 64) + int(low) for high, low in uid_array(uids)]
    assert found == sorted(int(uid, 16) for uid in uids)


def test_uids_come_back_from_the_file_of_numpy(tmp_path: Path) -> None:
    uids = ["00" * 16, "0123456789abcdef" * 2, "ff" * 16]
    np.save(tmp_path / "uids.npy", uid_array(uids))
    assert sorted(read_list(str(tmp_path / "uids.npy"), "uid")) == uids


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_column_is_read_as_text_without_what_is_missing(
    tmp_path: Path, suffix: str
) -> None:
    frame = pl.DataFrame({"key": [1, 2, 2, None], "other": ["x"] * 4})
    file = tmp_path / f"keys.{suffix}"
    frame.write_parquet(file) if suffix == "parquet" else frame.write_csv(file)
    assert sorted(read_list(str(file), "key")) == ["1", "2"]


def test_a_list_that_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text("key\na\n")
    assert list(read_list(str(file), "key")) == ["a"]
    file.write_text("key\na\nb\n")
    assert sorted(read_list(str(file), "key")) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "column", "told"),
    [
        ("keys.csv", b"key\na\n", "uid", "has no column 'uid'; it has key"),
        ("keys.txt", b"a\n", "key", "a list is a .parquet, .csv or .npy file"),
        ("keys.parquet", b"no Parquet", "key", "can't be read as a table"),
        ("keys.npy", b"no array", "uid", "not an array"),
        ("gone.npy", None, "uid", "no such file"),
    ],
)
def test_what_is_no_list_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, column: str, told: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=told) as caught:
        read_list(str(file), column)
    assert str(file) in str(caught.value)


def test_an_array_of_other_numbers_is_no_list_of_uids(tmp_path: Path) -> None:
    np.save(tmp_path / "uids.npy", np.zeros((3, 2), np.uint64))
    with pytest.raises(InputError, match=r"expected DataComp's uids.*\(3, 2\) of uint64"):
        read_list(str(tmp_path / "uids.npy"), "uid")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "uids.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="not an array"):
        read_list(str(tmp_path / "uids.npy"), "uid")


@pytest.mark.parametrize("uid", ["", "x" * 32, "AB" * 16, "ab" * 15])
def test_what_is_no_uid_is_refused(uid: str) -> None:
    with pytest.raises(InputError, match="is no uid of DataComp's"):
        uid_array([uid])
