"""Pairs of leaders are all listed, and a row that follows is like a leader."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.comparison import (
    CellRows,
    Pairs,
    Thresholds,
    compare_rows,
    compare_some,
    join_pairs,
)
from curation.dedup.vectors import make_vectors
from tests.curation.dedup.brute_force import cosines
from tests.curation.dedup.strategies import crowded_vectors

MIN, LEADER = 0.8, 0.97


def random_cells(num_rows: int, num_cells: int, seed: int) -> np.ndarray:
    """Draw a home cell and perhaps one of the halo for each row."""
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.permutation(num_cells)[:2] for _ in range(num_rows)])
    cells[rng.random(num_rows) < 0.4, 1] = -1
    return cells.astype(np.int32)


def comparable(cells: np.ndarray) -> np.ndarray:
    """Tell for all pairs whether the home of either is among the cells of the other."""
    shown = (cells[:, None, :1] == cells[None]).any(axis=2)
    return shown | shown.T


def rows_of(array: np.ndarray, num_cells: int, seed: int) -> CellRows:
    vectors, _, _ = make_vectors(array, device="cpu")
    cells = random_cells(len(array), num_cells, seed)
    return CellRows(vectors, np.arange(len(array)), cells)


def pair_set(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.row.tolist(), pairs.better.tolist(), strict=True))


@given(
    crowded_vectors(),
    st.integers(2, 5),
    st.integers(0, 99),
    st.sampled_from([1, 3, 100]),
    st.floats(0, 1),
)
def test_all_pairs_of_leaders_are_listed_and_nothing_that_is_not_similar(
    array: np.ndarray, num_cells: int, seed: int, max_pairs: int, old_share: float
) -> None:
    rows = rows_of(array, num_cells, seed)
    is_old = np.arange(len(array)) < old_share * len(array)
    found = compare_rows(rows, Thresholds(MIN, LEADER, max_pairs), is_old)
    similar = cosines(array) >= np.float32(MIN)
    similar &= comparable(rows.cells) & ~(is_old & is_old[:, None])
    listed = pair_set(found.pairs)
    assert len(listed) == len(found.pairs)
    assert all(row > better and similar[row, better] for row, better in listed)
    leads = found.is_leader
    expected = np.tril(similar, -1) & leads & leads[:, None]
    assert set(zip(*expected.nonzero(), strict=True)) <= listed
    assert leads[is_old].all()


@given(crowded_vectors(), st.integers(2, 5), st.integers(0, 99))
def test_a_row_that_follows_is_as_close_to_a_row_before_it(
    array: np.ndarray, num_cells: int, seed: int
) -> None:
    rows = rows_of(array, num_cells, seed)
    found = compare_rows(rows, Thresholds(MIN, LEADER, 100))
    close = cosines(array) >= np.float32(LEADER)
    listed = pair_set(found.pairs)
    for row in np.flatnonzero(~found.is_leader):
        assert any(close[row, better] for one, better in listed if one == row)


@given(crowded_vectors(), st.integers(2, 5), st.integers(0, 99), st.sampled_from([1, 100]))
def test_comparing_some_with_others_lists_their_similar_pairs(
    array: np.ndarray, num_cells: int, seed: int, max_pairs: int
) -> None:
    rows = rows_of(array, num_cells, seed)
    group = np.random.default_rng(seed).integers(3, size=len(array))
    some, others = group == 0, group == 1
    pairs, is_cut = compare_some(rows, some, others, MIN, max_pairs)
    similar = (cosines(array) >= np.float32(MIN)) & comparable(rows.cells)
    crossing = (some & others[:, None]) | (others & some[:, None])
    expected = set(zip(*np.tril(similar & crossing, -1).nonzero(), strict=True))
    assert pair_set(pairs) <= expected
    assert is_cut or pair_set(pairs) == expected


def test_pairs_are_joined_each_once() -> None:
    one = Pairs(np.array([2, 1]), np.array([1, 0]))
    other = Pairs(np.array([2, 2]), np.array([0, 1]))
    assert pair_set(join_pairs([one, other], 3)) == {(1, 0), (2, 0), (2, 1)}
    assert len(join_pairs([one, other], 3)) == 3
