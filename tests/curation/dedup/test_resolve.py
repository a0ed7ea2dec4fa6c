"""The answer over all kinds: each removed sample has a kept twin, none that is kept has."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.resolve import (
    EXACT,
    PERCEPTUAL,
    SEMANTIC,
    Edges,
    directed,
    duplicate_tables,
    join_edges,
    keep_greedily,
    make_edges,
    resolve,
)
from curation.dedup.rows import row_ids
from curation.errors import DataError
from curation.storage import MemoryStorage
from curation.tables import DUPLICATES, write_table
from tests.curation.dedup.brute_force import greedy_leader

NUM_NODES = 25

edge_lists = st.lists(
    st.tuples(
        st.integers(0, NUM_NODES - 1),
        st.integers(0, NUM_NODES - 1),
        st.sampled_from([0.9, 0.95, 1.0]),
        st.sampled_from([PERCEPTUAL, SEMANTIC]),
    ).filter(lambda edge: edge[0] > edge[1]),
    max_size=60,
)


def edges_of(listed: list[tuple[int, int, float, int]]) -> Edges:
    row, better, similarity, kind = (
        np.array([edge[i] for edge in listed]) for i in range(4)
    )
    return join_edges(
        make_edges(row[kind == k], better[kind == k], similarity[kind == k], k)
        for k in (PERCEPTUAL, SEMANTIC)
    )


def matrix(listed: list[tuple[int, int, float, int]]) -> np.ndarray:
    similar = np.zeros((NUM_NODES, NUM_NODES), bool)
    for row, better, *_ in listed:
        similar[row, better] = similar[better, row] = True
    return similar


@given(edge_lists)
def test_greedy_keeping_is_what_one_row_at_a_time_gives(
    listed: list[tuple[int, int, float, int]],
) -> None:
    row = np.array([edge[0] for edge in listed], np.int64)
    better = np.array([edge[1] for edge in listed], np.int64)
    kept = keep_greedily(row, better, NUM_NODES)
    expected = greedy_leader(matrix(listed), np.arange(NUM_NODES))
    np.testing.assert_array_equal(kept, expected)


def test_a_long_chain_is_decided_link_by_link() -> None:
    nodes = np.arange(100_000)
    kept = keep_greedily(nodes[1:], nodes[:-1], len(nodes))
    np.testing.assert_array_equal(np.flatnonzero(kept), nodes[::2])


def test_edges_in_a_circle_are_refused() -> None:
    with pytest.raises(DataError, match=r"4 samples .* directed by the same preferences"):
        keep_greedily(np.array([0, 1, 2, 3]), np.array([1, 2, 0, 0]), 4)


@given(edge_lists, st.permutations(range(NUM_NODES)))
def test_edges_are_directed_towards_what_is_preferred(
    listed: list[tuple[int, int, float, int]], places: list[int]
) -> None:
    edges = edges_of(listed)
    order = np.array(places)
    found = directed(edges, lambda ids: order[ids.astype(int)])
    assert (order[found.row.astype(int)] > order[found.better.astype(int)]).all()
    ends = np.sort(np.stack([edges.row, edges.better]), axis=0)
    np.testing.assert_array_equal(np.sort(np.stack([found.row, found.better]), 0), ends)


@given(edge_lists)
def test_removed_samples_go_to_the_closest_kept_twin(
    listed: list[tuple[int, int, float, int]],
) -> None:
    removals = resolve(edges_of(listed))
    kept = greedy_leader(matrix(listed), np.arange(NUM_NODES))
    assert removals.removed.tolist() == np.flatnonzero(~kept).tolist()
    for removed, survivor, similarity, kind in zip(
        removals.removed, removals.survivor, removals.similarity, removals.kind, strict=True
    ):
        twins = [(k, -s, b) for r, b, s, k in listed if r == removed and kept[b]]
        closest = min(twins)
        assert (kind, survivor) == (closest[0], closest[2])
        assert similarity == np.float32(-closest[1])


@given(edge_lists, st.sets(st.integers(0, NUM_NODES - 1)))
def test_released_samples_stay_and_others_go_for_them(
    listed: list[tuple[int, int, float, int]], released: set[int]
) -> None:
    removals = resolve(edges_of(listed), released=np.array(sorted(released), np.uint64))
    similar = matrix(listed)
    among_released = np.array([node in released for node in range(NUM_NODES)])
    similar[np.ix_(among_released, among_released)] = False
    order = np.lexsort((np.arange(NUM_NODES), ~among_released))
    kept = greedy_leader(similar, order)
    assert removals.removed.tolist() == np.flatnonzero(~kept).tolist()
    assert not released & set(removals.removed.tolist())


@given(edge_lists, st.data())
def test_exact_copies_share_their_originals_fate(
    listed: list[tuple[int, int, float, int]], data: st.DataObject
) -> None:
    copies = sorted(data.draw(st.sets(st.integers(10, NUM_NODES - 1), max_size=8)))
    originals = [data.draw(st.integers(0, 9)) for _ in copies]
    exact = (np.array(copies, np.uint64), np.array(originals, np.uint64))
    alone = resolve(
        edges_of([e for e in listed if not {e[0], e[1]} & set(copies)]), exact=None
    )
    removals = resolve(edges_of(listed), exact=exact)
    fate = dict(zip(alone.removed.tolist(), alone.survivor.tolist(), strict=True))
    found = dict(zip(removals.removed.tolist(), removals.survivor.tolist(), strict=True))
    expected = fate | {c: fate.get(o, o) for c, o in zip(copies, originals, strict=True)}
    assert found == expected
    kinds = dict(zip(removals.removed.tolist(), removals.kind.tolist(), strict=True))
    for copy, original in zip(copies, originals, strict=True):
        assert (kinds[copy] == EXACT) == (original not in fate)


def test_a_released_copy_becomes_the_original_and_further_released_ones_stay() -> None:
    exact = (np.array([1, 2, 3], np.uint64), np.array([0, 0, 0], np.uint64))
    removals = resolve(join_edges([]), exact=exact, released=np.array([2, 3], np.uint64))
    assert removals.removed.tolist() == [0, 1]
    assert removals.survivor.tolist() == [2, 2]
    assert removals.kind.tolist() == [EXACT, EXACT]


def test_no_edges_remove_nothing() -> None:
    removals = resolve(join_edges([]))
    assert len(removals) == 0
    assert removals.removed.dtype == np.uint64


def test_each_shard_gets_a_table_with_keys_in_its_order() -> None:
    keys = {0: ["a", "b", "c"], 1: ["a", "x"], 2: ["y"]}
    edges = join_edges(
        [
            make_edges(
                row_ids(1, np.array([1])), row_ids(0, np.array([2])), 0.97, SEMANTIC
            ),
            make_edges(
                row_ids(0, np.array([1])), row_ids(0, np.array([0])), 0.9, PERCEPTUAL
            ),
        ]
    )
    exact = (row_ids(1, np.array([0])), row_ids(0, np.array([0])))
    tables = dict(
        duplicate_tables(
            resolve(edges, exact=exact),
            [0, 1, 2],
            lambda ordinal: f"s/{ordinal}",
            lambda ordinal: pa.array(keys[ordinal]),
        )
    )
    storage = MemoryStorage()
    for ordinal, table in tables.items():
        write_table(storage, str(ordinal), DUPLICATES, table, fingerprint="f")
    near = pytest.approx(0.97)
    assert tables[1].to_pylist() == [
        _row("a", "s/0", "a", "exact", 1.0),
        _row("x", "s/0", "c", "semantic", near),
    ]
    assert tables[0].to_pylist() == [
        _row("b", "s/0", "a", "perceptual", pytest.approx(0.9))
    ]
    assert tables[2].num_rows == 0


def _row(key: str, shard: str, survivor: str, kind: str, similarity: object) -> dict:
    names = {"key": key, "survivor_shard": shard, "survivor_key": survivor}
    return names | {"kind": kind, "similarity": similarity}
