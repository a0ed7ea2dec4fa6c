"""Pairs are read back as they were written."""

import numpy as np

from curation.dedup.centroids import CellSettings, fit_centroids
from curation.dedup.known_pairs import KnownPairs, compared_parts, read_pairs, write_pairs
from curation.dedup.resolve import SEMANTIC, join_edges, make_edges
from curation.dedup.state import StateSettings, create_state
from curation.storage import MemoryStorage

NOBODY = np.empty(0, np.uint64)


def test_pairs_and_followers_are_read_back_in_order() -> None:
    centroids = fit_centroids(np.eye(4, dtype=np.float16), CellSettings(1), 0.9)
    state = create_state(MemoryStorage(), "s", StateSettings("encoder"), centroids)
    assert read_pairs(state, 0) == []
    edges = make_edges(np.array([5, 7]), np.array([1, 2]), np.array([0.9, 1.0]), SEMANTIC)
    large = np.array([2**63, 3], np.uint64)
    for written in (
        KnownPairs(edges, large, ("a", "b")),
        KnownPairs(join_edges([]), NOBODY, ("c",)),
    ):
        write_pairs(state, state.next_pairs_path(0), written)
        found = read_pairs(state, 0)[-1]
        np.testing.assert_array_equal(found.edges.row, written.edges.row)
        np.testing.assert_array_equal(found.edges.better, written.edges.better)
        np.testing.assert_array_equal(found.edges.similarity, written.edges.similarity)
        np.testing.assert_array_equal(found.followers, written.followers)
        assert found.parts == written.parts
    assert compared_parts(state, 0) == {"a", "b", "c"}
    assert compared_parts(state, 1) == set()
