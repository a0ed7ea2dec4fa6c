"""Keys of digits, against slices of strings."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError, TableError
from curation.key_digits import split_digits


@given(st.lists(st.text("0123456789", min_size=4, max_size=18)), st.integers(1, 3))
def test_rows_and_shards_are_slices_of_the_key(keys: list[str], width: int) -> None:
    column = pa.chunked_array([pa.array(["0000", *keys])]).slice(1)
    shards, rows = split_digits(column, "here", index_width=width)
    assert shards.tolist() == [int(key[:-width]) for key in keys]
    assert rows.tolist() == [int(key[-width:]) for key in keys]
    shards, rows = split_digits(column, "here", shard_width=width)
    assert shards.tolist() == [int(key[:width]) for key in keys]
    assert rows.tolist() == [int(key[width:]) for key in keys]


@pytest.mark.parametrize("key", ["00a1", "0001é", "12", "", "1" * 40, "-0001", "0 01"])
def test_a_key_of_something_else_is_named(key: str) -> None:
    with pytest.raises(InputError, match="tar 3: expected keys of digits"):
        split_digits(pa.array(["0001", key]), "tar 3", index_width=2)


@pytest.mark.parametrize(
    "widths", [{}, {"index_width": 1, "shard_width": 1}, {"index_width": 0}]
)
def test_exactly_one_sensible_width_is_needed(widths: dict[str, int]) -> None:
    with pytest.raises(InputError, match="width"):
        split_digits(pa.array(["00"]), "here", **widths)


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(TableError, match="1 of 2 keys are null"):
        split_digits(pa.array(["00", None]), "here", index_width=1)
