"""Semantic deduplication is the greedy leader's, by brute force over all pairs."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.centroids import CellSettings
from curation.dedup.semantic import find_semantic_duplicates
from curation.errors import InputError
from tests.curation.dedup.brute_force import best_first, cosines, greedy_leader
from tests.curation.dedup.strategies import crowded_vectors

thresholds = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])
seeds = st.integers(0, 1 << 32)


def removed_mask(table: pa.Table, num_rows: int) -> np.ndarray:
    mask = np.zeros(num_rows, bool)
    mask[table["removed"].to_numpy()] = True
    return mask


@given(crowded_vectors(), seeds, thresholds)
def test_the_answer_is_the_greedy_leaders(
    vectors: np.ndarray, seed: int, threshold: float
) -> None:
    rank = np.random.default_rng(seed).integers(0, 20, len(vectors))  # with ties
    table = find_semantic_duplicates(vectors, rank, min_similarity=threshold)
    similar = cosines(vectors) >= np.float32(threshold)
    kept = greedy_leader(similar, best_first(rank))
    np.testing.assert_array_equal(removed_mask(table, len(vectors)), ~kept)


@settings(max_examples=30)
@given(crowded_vectors(), seeds, thresholds, st.integers(2, 9))
def test_in_cells_every_removed_row_has_the_closest_kept_one_found_as_survivor(
    vectors: np.ndarray, seed: int, threshold: float, num_cells: int
) -> None:
    rank = np.random.default_rng(seed).random(len(vectors))
    table = find_semantic_duplicates(
        vectors, rank, min_similarity=threshold, cells=CellSettings(num_cells, halo=0.2)
    )
    removed, survivor = table["removed"].to_numpy(), table["survivor"].to_numpy()
    assert len(set(removed)) == len(removed)
    assert not set(removed) & set(survivor)
    assert (rank[survivor] >= rank[removed]).all()
    similarity = table["similarity"].to_numpy()
    assert (similarity >= np.float32(threshold)).all()
    np.testing.assert_allclose(similarity, cosines(vectors)[removed, survivor], atol=1e-6)


@settings(max_examples=30)
@given(crowded_vectors(), seeds, thresholds, st.integers(2, 9))
def test_with_a_wide_halo_cells_lose_nothing(
    vectors: np.ndarray, seed: int, threshold: float, num_cells: int
) -> None:
    rank = np.random.default_rng(seed).random(len(vectors))
    cells = CellSettings(num_cells, halo=2, max_cells_per_row=num_cells)
    table = find_semantic_duplicates(vectors, rank, min_similarity=threshold, cells=cells)
    kept = greedy_leader(cosines(vectors) >= np.float32(threshold), best_first(rank))
    np.testing.assert_array_equal(removed_mask(table, len(vectors)), ~kept)


@given(crowded_vectors(), seeds, thresholds)
def test_the_order_of_rows_does_not_count(
    vectors: np.ndarray, seed: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    rank = rng.permutation(len(vectors))
    shuffled = rng.permutation(len(vectors))
    one = find_semantic_duplicates(vectors, rank, min_similarity=threshold)
    other = find_semantic_duplicates(
        vectors[shuffled], rank[shuffled], min_similarity=threshold
    )
    place = np.argsort(shuffled[other["removed"].to_numpy()])
    back = {
        name: shuffled[other[name].to_numpy()][place] for name in other.column_names[:2]
    }
    np.testing.assert_array_equal(back["removed"], one["removed"].to_numpy())
    # Of survivors equally similar, another may be named.
    np.testing.assert_array_equal(
        other["similarity"].to_numpy()[place], one["similarity"].to_numpy()
    )


@given(crowded_vectors(), st.data(), thresholds)
def test_rows_that_can_not_be_compared_are_like_no_other_and_change_nothing(
    vectors: np.ndarray, data: st.DataObject, threshold: float
) -> None:
    spoilt = vectors.copy()
    kinds = st.sampled_from(["fine", "nan", "infinite", "zero", "long"])
    given_kinds = data.draw(st.lists(kinds, min_size=len(spoilt), max_size=len(spoilt)))
    for row, kind in enumerate(given_kinds):
        spoilt[row, 0] = {"nan": np.nan, "infinite": np.inf}.get(kind, spoilt[row, 0])
        spoilt[row] *= {"zero": 0, "long": 2}.get(kind, 1)
    fine = np.array([kind == "fine" for kind in given_kinds])
    rank = np.arange(len(vectors))
    table = find_semantic_duplicates(spoilt, rank, min_similarity=threshold)
    similar = (cosines(vectors) >= np.float32(threshold)) & fine & fine[:, None]
    kept = greedy_leader(similar, best_first(rank))
    np.testing.assert_array_equal(removed_mask(table, len(vectors)), ~kept)
    about = json.loads(table.schema.metadata[b"curation"])
    assert about == {
        "rows": len(vectors),
        "not_finite": given_kinds.count("nan") + given_kinds.count("infinite"),
        "zero": given_kinds.count("zero"),
        "not_unit_length": given_kinds.count("long"),
    }


@given(crowded_vectors(), thresholds, seeds)
def test_lengths_do_not_count_if_they_are_taken_away(
    vectors: np.ndarray, threshold: float, seed: int
) -> None:
    lengths = np.random.default_rng(seed).uniform(0.1, 30, (len(vectors), 1))
    rank = np.arange(len(vectors))
    longer = (vectors * lengths).astype(np.float32)
    table = find_semantic_duplicates(longer, rank, min_similarity=threshold, normalize=True)
    kept = greedy_leader(cosines(longer) >= np.float32(threshold), best_first(rank))
    np.testing.assert_array_equal(removed_mask(table, len(vectors)), ~kept)


@pytest.mark.parametrize("num_cells", [1, 7])
def test_a_crowd_of_equal_rows_leaves_the_best(num_cells: int) -> None:
    rng = np.random.default_rng(0)
    row = rng.standard_normal((1, 32))
    vectors = np.repeat(row / np.linalg.norm(row), 10_000, axis=0).astype(np.float16)
    rank = rng.random(10_000)
    table = find_semantic_duplicates(
        vectors, rank, min_similarity=0.95, cells=CellSettings(num_cells)
    )
    assert len(table) == 9_999
    assert set(table["survivor"].to_pylist()) == {int(rank.argmax())}
    assert (table["similarity"].to_numpy() == 1).all()


def test_a_crowd_of_nearly_equal_rows_leaves_the_best() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(64) + 0.01 * rng.standard_normal((10_000, 64))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    table = find_semantic_duplicates(vectors, rng.random(10_000), min_similarity=0.95)
    assert len(table) == 9_999


def test_a_crowd_whose_best_row_goes_goes_with_it() -> None:
    """All followers lose their leader to a row of another cell at once."""
    rng = np.random.default_rng(0)
    best, row = _at_cosine(0.96, rng, 64)
    others = rng.standard_normal((2000, 64))
    crowd = np.repeat(row[None], 1000, axis=0)
    vectors = np.concatenate([best[None], crowd, others])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    rank = -np.arange(len(vectors))
    cells = CellSettings(20, halo=1, max_cells_per_row=20)
    table = find_semantic_duplicates(vectors, rank, min_similarity=0.95, cells=cells)
    crowd_rows = list(range(1, 1001))
    assert table["removed"].to_pylist()[:1000] == crowd_rows
    assert set(table["survivor"].to_pylist()[:1000]) == {0}


def _at_cosine(
    cosine: float, rng: np.random.Generator, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.linalg.qr(rng.standard_normal((dim, 2)))[0].T
    return one, cosine * one + np.sqrt(1 - cosine**2) * other


def test_a_long_chain_keeps_every_second_row() -> None:
    angles = np.arange(3000) * np.pi / 3000
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    just_neighbours = float(np.cos(1.5 * np.pi / 3000))
    table = find_semantic_duplicates(
        vectors, -np.arange(3000), min_similarity=just_neighbours
    )
    assert table["removed"].to_pylist() == list(range(1, 3000, 2))


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3])
def test_few_rows_are_no_trouble(num_rows: int) -> None:
    vectors = np.ones((num_rows, 4), np.float32) / 2
    for cells in (None, CellSettings(50)):
        table = find_semantic_duplicates(
            vectors, np.arange(num_rows), min_similarity=0.9, cells=cells
        )
        assert table["removed"].to_pylist() == list(range(num_rows - 1))
        assert table.schema.types == [pa.int64(), pa.int64(), pa.float32()]


def test_the_given_array_is_neither_changed_nor_need_it_be_writable() -> None:
    vectors = np.eye(4, dtype=np.float16)
    vectors.setflags(write=False)
    assert len(find_semantic_duplicates(vectors, np.arange(4), min_similarity=0.5)) == 0


def test_ranks_may_be_large_integers_and_nan_is_least() -> None:
    vectors = np.ones((3, 1), np.float32)
    huge = np.array([2**62, 2**62 + 1, 2**62 - 1])
    survivors = [
        find_semantic_duplicates(vectors, rank, min_similarity=0.9)["survivor"][0].as_py()
        for rank in (huge, huge.astype(np.uint64), np.array([np.nan, 1.0, -5.0]))
    ]
    assert survivors == [1, 1, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"min_similarity": 0.0}, "min_similarity is 0.0; expected more than 0, to 1"),
        ({"min_similarity": 1.1}, "min_similarity is 1.1"),
        ({"rank": np.arange(5)}, r"rank: expected \(4,\); found \(5,\)"),
        ({"vectors": np.eye(4)}, r"expected \(N, dim\) float16 or float32; .* float64"),
        ({"vectors": np.ones(4, np.float32)}, r"found \(4,\) float32"),
    ],
)
def test_wrong_input_is_named(changed: dict[str, object], message: str) -> None:
    arguments = {"vectors": np.eye(4, dtype=np.float32), "rank": np.arange(4)}
    with pytest.raises(InputError, match=message):
        find_semantic_duplicates(**(arguments | {"min_similarity": 0.9} | changed))
