"""Cells: each row is in that of its nearest centroid, and in those nearly as near."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.centroids import (
    CellSettings,
    Centroids,
    assign_cells,
    fit_centroids,
    halo_for,
    home_similarity,
    read_centroids,
    write_centroids,
)
from curation.dedup.vectors import make_vectors
from curation.errors import InputError
from curation.storage import MemoryStorage


def random_vectors(num_rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((num_rows, dim)) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@cache
def fitted(num_cells: int = 12, **changed: object) -> Centroids:
    settings = CellSettings(num_cells, **changed)  # type: ignore[arg-type]
    return fit_centroids(random_vectors(800), settings, 0.9, device="cpu")


def nearness(vectors: np.ndarray, centroids: Centroids) -> np.ndarray:
    centred = vectors.astype(np.float64) - centroids.mean
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    found: np.ndarray = centred @ centroids.vectors.T
    return found


@pytest.mark.parametrize(("num_cells", "most"), [(1, 1), (4, 4), (316, 6), (707, 11)])
def test_a_row_is_shown_to_more_cells_where_there_are_more(
    num_cells: int, most: int
) -> None:
    array = random_vectors(64 * 64, seed=2)
    found = fit_centroids(array, CellSettings(num_cells), 0.9, device="cpu")
    assert found.max_cells_per_row == most


def test_home_is_the_nearest_centroid_and_the_halo_nearly_as_near() -> None:
    centroids = fitted(halo=0.1, max_cells_per_row=5)
    array = random_vectors(300, seed=1)
    vectors, _, _ = make_vectors(array, device="cpu")
    rows = np.arange(300)
    cells = assign_cells(vectors, rows, centroids)
    near = nearness(array, centroids)
    rounding = 0.01  # of products in bfloat16
    for row in rows:
        members = cells[row][cells[row] >= 0]
        best = near[row].max()
        assert near[row, members[0]] >= best - rounding
        assert (near[row, members] >= best - 0.1 - rounding).all()
        others = np.setdiff1d(np.arange(12), members)
        assert len(members) == 5 or (near[row, others] < best - 0.1 + rounding).all()
    found = home_similarity(vectors, rows, cells, centroids)
    np.testing.assert_allclose(found, near[rows, cells[:, 0]], atol=1e-3)


@settings(max_examples=10)
@given(st.integers(1, 200), st.integers(0, 99))
def test_the_cells_of_a_row_do_not_hang_on_its_company(count: int, seed: int) -> None:
    centroids = fitted()
    vectors, _, _ = make_vectors(random_vectors(200, seed=1), device="cpu")
    some = np.random.default_rng(seed).permutation(200)[:count]
    together = assign_cells(vectors, np.arange(200), centroids)
    np.testing.assert_array_equal(assign_cells(vectors, some, centroids), together[some])


@pytest.mark.parametrize("num_bins", [1, 3, 4, 50])
def test_every_bin_has_a_cell_and_bins_are_about_equal(num_bins: int) -> None:
    centroids = fitted(40, num_bins=num_bins)
    assert centroids.num_bins == min(num_bins, 40)
    vectors, _, _ = make_vectors(random_vectors(800), device="cpu")
    home = assign_cells(vectors, np.arange(800), centroids)[:, 0]
    sizes = np.bincount(centroids.bins[home], minlength=centroids.num_bins)
    assert set(centroids.bins) == set(range(centroids.num_bins))
    if num_bins <= 4:
        assert sizes.max() < 2 * 800 / num_bins


def test_they_are_written_and_read_back() -> None:
    centroids, storage = fitted(num_bins=3), MemoryStorage()
    write_centroids(storage, "c.parquet", centroids)
    again = read_centroids(storage, "c.parquet")
    assert again.fingerprint == centroids.fingerprint
    np.testing.assert_array_equal(again.vectors, centroids.vectors)
    assert fitted(num_bins=3, seed=1).fingerprint != centroids.fingerprint


def test_rows_fewer_than_cells_and_copies_of_one_row_give_few_cells() -> None:
    few = fit_centroids(random_vectors(3), CellSettings(50), 0.9, device="cpu")
    assert few.num_cells <= 3
    copies = np.repeat(random_vectors(1), 500, axis=0)
    assert fit_centroids(copies, CellSettings(50), 0.9, device="cpu").num_cells == 1


def test_lower_thresholds_and_fewer_dimensions_need_a_wider_halo() -> None:
    assert halo_for(0.99, 512) < halo_for(0.95, 512) < halo_for(0.9, 512)
    assert halo_for(0.95, 768) < halo_for(0.95, 128)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="3 rows, none of which is a unit vector"):
        fit_centroids(np.zeros((3, 4), np.float16), CellSettings(2), 0.9)
    vectors, _, _ = make_vectors(random_vectors(3, dim=8), device="cpu")
    with pytest.raises(InputError, match="8 numbers, and the centroids 16"):
        assign_cells(vectors, np.arange(3), fitted())
    with pytest.raises(InputError, match="num_cells is 0; expected at least 1"):
        CellSettings(0)
