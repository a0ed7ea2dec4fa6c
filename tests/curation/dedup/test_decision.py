"""A follower that is to be kept is compared with the kept ones first."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.comparison import CellRows, Thresholds
from curation.dedup.decision import Checked, check_rows, decide
from curation.dedup.resolve import SEMANTIC, Edges, make_edges
from curation.dedup.vectors import make_vectors
from tests.curation.dedup.brute_force import cosines, greedy_leader
from tests.curation.dedup.strategies import crowded_vectors
from tests.curation.dedup.test_comparison import comparable, random_cells


@given(st.integers(0, 1 << 32), st.integers(2, 14))
def test_whatever_is_not_known_of_followers_is_found_out(seed: int, count: int) -> None:
    """All that is known first is a random share of followers' edges."""
    rng = np.random.default_rng(seed)
    similar = np.tril(rng.random((count, count)) < 0.3, -1)
    follows = rng.random(count) < 0.5
    is_known = ~(follows | follows[:, None]) | (rng.random((count, count)) < 0.3)
    places = rng.permutation(count)

    def edges_of(pairs: np.ndarray) -> Edges:
        row, better = pairs.nonzero()
        return make_edges(row, better, 1.0, SEMANTIC)

    def check(unsure: np.ndarray, removed: np.ndarray) -> Checked:
        assert (np.diff(places[unsure.astype(int)]) > 0).all()
        kept = ~np.isin(np.arange(count), removed)
        some = np.isin(np.arange(count), unsure)
        pairs = similar & kept & kept[:, None] & (some | some[:, None])
        return Checked(edges_of(pairs), np.empty(0, np.uint64))

    removals = decide(
        edges_of(similar & is_known),
        np.flatnonzero(follows).astype(np.uint64),
        check,
        lambda ids: places[ids.astype(int)],
    )
    kept = greedy_leader(similar | similar.T, np.argsort(places))
    assert removals.removed.tolist() == np.flatnonzero(~kept).tolist()


@settings(max_examples=40)
@given(crowded_vectors(), st.integers(2, 4), st.integers(0, 99), st.sampled_from([2, 99]))
def test_rows_that_are_settled_have_all_their_pairs_listed(
    array: np.ndarray, num_cells: int, seed: int, max_pairs: int
) -> None:
    rng = np.random.default_rng(seed)
    count = len(array)
    vectors, _, _ = make_vectors(array, device="cpu")
    rows = CellRows(vectors, np.arange(count), random_cells(count, num_cells, seed))
    some = rng.permutation(count)[: count // 2]
    stays = rng.random(count) < 0.3
    thresholds = Thresholds(0.8, 0.8, max_pairs)
    pairs, unsettled = check_rows(rows, some, stays, thresholds)
    listed = set(map(frozenset, zip(pairs.row, pairs.better, strict=True)))
    similar = (cosines(array) >= np.float32(0.8)) & comparable(rows.cells)
    similar &= ~(stays & stays[:, None])
    np.fill_diagonal(similar, val=False)
    settled = np.setdiff1d(some, np.flatnonzero(unsettled))
    # Pairs of a settled row with one that isn't are found when that is compared again.
    for row in settled:
        others = np.setdiff1d(np.flatnonzero(similar[row]), np.flatnonzero(unsettled))
        assert all(frozenset((row, other)) in listed for other in others)
    in_doubt = [row for row in np.flatnonzero(unsettled) if not stays[row]]
    paired = set().union(*listed) if listed else set()
    if max_pairs == 99:
        assert set(in_doubt) <= paired
