"""An id holds a shard's ordinal and a row, and gives both back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.rows import (
    distinct,
    is_among,
    ordinals,
    renumbered,
    row_ids,
    rows_in_shard,
)

numbers = st.integers(0, (1 << 32) - 1)


@given(numbers, st.lists(numbers))
def test_an_id_gives_back_what_it_was_made_of(ordinal: int, rows: list[int]) -> None:
    ids = row_ids(ordinal, np.array(rows, np.int64))
    assert ids.dtype == np.uint64
    assert ordinals(ids).tolist() == [ordinal] * len(rows)
    assert rows_in_shard(ids).tolist() == rows


def test_a_number_of_rows_stands_for_all_of_them() -> None:
    assert row_ids(3, 2).tolist() == [3 << 32, (3 << 32) + 1]
    assert row_ids(3, 0).tolist() == []


def test_ids_sort_by_shard_then_row() -> None:
    ids = np.concatenate([row_ids(shard, 3) for shard in (0, 1, (1 << 32) - 1)])
    assert (np.diff(ids.astype(object)) > 0).all()


def test_an_id_keeps_its_row_under_another_ordinal() -> None:
    ids = np.concatenate([row_ids(0, 2), row_ids(2, 2)])
    expected = np.concatenate([row_ids(7, 2), row_ids(1, 2)])
    np.testing.assert_array_equal(renumbered(ids, np.array([7, -1, 1])), expected)


@given(st.lists(numbers))
def test_distinct_is_numpys_unique(some: list[int]) -> None:
    values = np.array(some, np.uint64)
    np.testing.assert_array_equal(distinct(values), np.unique(values))


@given(st.lists(st.integers(0, 12), max_size=20), st.lists(st.integers(0, 12), max_size=20))
def test_members_are_those_of_a_python_set(ids: list[int], some: list[int]) -> None:
    found = is_among(np.array(ids, np.uint64), np.array(some, np.uint64))
    assert found.tolist() == [number in set(some) for number in ids]
