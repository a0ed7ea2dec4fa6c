"""Cells: parts of the space of vectors, so that only vectors of one cell are compared.

A cell is all that is nearest to one centroid. Centroids are fitted once, on a sample, and
then frozen: a row's cells never change, which is what makes it possible to add a shard
to a thousand without touching what was compared before.

Pairs that a border would part are not lost: a row is also shown to every cell that is
nearly as near as its own, its halo. Two rows are *comparable* if the home cell of either
is among the cells of the other.

Before centroids are fitted or compared with, the sample's mean is subtracted. Embeddings
of pictures lie in a narrow cone, where cells would be of very unequal sizes.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from curation.dedup.comparison import CellRows, Thresholds, compare_rows
from curation.dedup.vectors import Vectors, as_tensor, make_vectors, proposal_type
from curation.errors import InputError
from curation.fingerprint import fingerprint
from curation.storage.base import Storage
from curation.tables import CENTROIDS, read_about, read_table, write_table

ROWS_PER_CELL = 64
"""Rows of the sample for each cell; more make cells hardly more even."""

NUM_ITERATIONS = 10
_BLOCK_ROWS = 4096

_PROBED_ROWS = 4096
_FEW = 0.25
"""Share of distinct rows below which a sample is mostly copies. Cells are then few, since
the copies of one picture must not be spread over many."""


@dataclass(frozen=True, slots=True)
class CellSettings:
    """How the space is cut into cells."""

    num_cells: int
    """Centroids to fit; fewer where the sample has few rows that are no near copies."""
    num_bins: int = 1
    """Groups of cells that are compared together, of about equal size."""
    halo: float | None = None
    """A row is also shown to cells whose similarity to it is at most this much lower than
    its home cell's; by default :func:`halo_for` the threshold."""
    max_cells_per_row: int | None = None
    """Cells that a row is shown to at most, its own among them; by default
    :func:`most_cells_for` their number."""
    seed: int = 0
    """Which rows of the sample the fit starts from."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; expected at least {least}")


_LEAST = {"num_cells": 1, "num_bins": 1, "halo": 0, "max_cells_per_row": 1, "seed": 0}


@dataclass(frozen=True, eq=False)
class Centroids:
    """Frozen cells."""

    mean: np.ndarray
    """``(dim,)`` float32, what is subtracted first."""
    vectors: np.ndarray
    """``(cells, dim)`` float32 of unit length."""
    bins: np.ndarray
    """``(cells,)`` int32: the bin of each cell. Cells of a bin are near each other, so that
    a row and its halo are mostly in one bin."""
    halo: float
    max_cells_per_row: int

    @property
    def num_cells(self) -> int:
        """How many cells there are."""
        return len(self.vectors)

    @property
    def num_bins(self) -> int:
        """How many bins there are."""
        return int(self.bins.max()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """The hash of all that decides a row's cells."""
        arrays = (self.mean, self.vectors, self.bins)
        contents = [np.ascontiguousarray(array).tobytes().hex() for array in arrays]
        return fingerprint("centroids", self.halo, self.max_cells_per_row, *contents)


def halo_for(min_similarity: float, dim: int) -> float:
    """Give the halo at which next to no pair of that similarity is lost.

    Two vectors at the threshold's angle differ, along the line between two centroids, by
    about ``tan(angle) / sqrt(dim)``, if they differ in no special direction; this is 2.75
    times that, for centroids about 1 apart. ``benchmarks/dedup.py`` measures what is lost.
    """
    angle = math.acos(min(max(min_similarity, 0.05), 1))
    return 2.75 * math.tan(angle) / math.sqrt(dim)


def most_cells_for(num_cells: int) -> int:
    """Give how many of so many cells a row is shown to at most.

    The more cells there are, the more of them meet near a row, and the more pairs are lost
    to a fixed bound: with 6 of 707 cells, 1 in 550 planted pairs of a million rows, and
    with 11, 1 in 3,700 (``benchmarks/dedup.py``). Beyond 16 the halo bounds it.
    """
    return min(max(6, num_cells // 64), 16)


def fit_centroids(
    sample: np.ndarray,
    settings: CellSettings,
    min_similarity: float,
    *,
    device: str | None = None,
) -> Centroids:
    """Fit cells to a sample, by spherical k-means on vectors without their mean.

    Args:
        sample: ``(N, dim)`` float16 or float32. Rows that can't be compared are left
            out. More than 64 for each cell aren't needed.
        settings: How many cells, and how they overlap.
        min_similarity: The lowest cosine for which the cells will be used.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        InputError: The sample has no row that can be compared.

    Source: Dhillon and Modha, Concept Decompositions for Large Sparse Text Data (2001).
    """
    vectors, usable, _ = make_vectors(sample, device=device)
    if not usable.any():
        raise InputError(
            f"the sample has {len(sample)} rows, none of which is a unit vector"
        )
    rng = np.random.default_rng(settings.seed)
    rows = rng.permutation(np.flatnonzero(usable))
    distinct = _distinct(vectors, rows[:_PROBED_ROWS], min_similarity)
    num_cells = min(settings.num_cells, len(rows))
    if len(distinct) < _FEW * min(len(rows), _PROBED_ROWS):
        num_cells = min(num_cells, max(1, len(distinct) // 16))
    # Of distinct rows, because a picture that is there very often would be the mean; with
    # it gone from them, its copies would lie all around.
    mean = vectors.single(distinct).mean(dim=0)
    centred = _centred(vectors.single(rows), mean)
    centroids, sizes = _k_means(centred, centred[:num_cells])
    found = centroids.cpu().numpy()
    halo, most = settings.halo, settings.max_cells_per_row
    return Centroids(
        mean=mean.cpu().numpy(),
        vectors=found,
        bins=_bins_of(found, sizes.cpu().numpy(), settings.num_bins),
        halo=halo_for(min_similarity, sample.shape[1]) if halo is None else halo,
        max_cells_per_row=min(most or most_cells_for(num_cells), num_cells),
    )


def assign_cells(vectors: Vectors, rows: np.ndarray, centroids: Centroids) -> np.ndarray:
    """Say which cells rows belong to.

    Args:
        vectors: Where the rows are.
        rows: ``(n,)`` row numbers, all of which can be compared.
        centroids: The cells.

    Returns:
        ``(n, max_cells_per_row)`` int32: the home cell, then the cells of the halo, the
        nearest first; -1 where there are fewer.

    Raises:
        InputError: The vectors have another length than the centroids.
    """
    if vectors.rows.shape[1] != len(centroids.mean):
        raise InputError(
            f"vectors have {vectors.rows.shape[1]} numbers, and the centroids "
            f"{len(centroids.mean)}: they are of another encoder; fit them anew"
        )
    cells = np.zeros((len(rows), centroids.max_cells_per_row), np.int32)
    if centroids.num_cells == 1:
        return cells
    mean = as_tensor(centroids.mean).to(vectors.device)
    half = proposal_type(vectors.device)
    targets = as_tensor(centroids.vectors).to(vectors.device, half)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        centred = _centred(vectors.single(block), mean).to(half)
        # Always as many rows, so that a row's result doesn't hang on its company.
        padded = torch.nn.functional.pad(centred, (0, 0, 0, _BLOCK_ROWS - len(block)))
        nearness = (padded @ targets.T)[: len(block)]
        best, nearest = nearness.topk(centroids.max_cells_per_row, dim=1)
        outside = best < best[:, :1] - centroids.halo
        cells[start : start + len(block)] = nearest.masked_fill(outside, -1).cpu().numpy()
    return cells


def home_similarity(
    vectors: Vectors, rows: np.ndarray, cells: np.ndarray, centroids: Centroids
) -> np.ndarray:
    """Give the cosine of rows to the centroids of their home cells.

    Args:
        vectors: Where the rows are.
        rows: ``(n,)`` row numbers.
        cells: What :func:`assign_cells` gives for them.
        centroids: The cells.

    Returns:
        ``(n,)`` float32; SemDeDup keeps the lowest of a group first.
    """
    found = np.empty(len(rows), np.float32)
    mean = as_tensor(centroids.mean).to(vectors.device)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        centred = _centred(vectors.single(rows[block]), mean)
        home = as_tensor(centroids.vectors[cells[block, 0]]).to(vectors.device)
        found[block] = (centred * home).sum(dim=1).cpu().numpy()
    return found


def write_centroids(
    storage: Storage, path: str, centroids: Centroids, **about: Any
) -> None:
    """Write centroids, and what to remember with them, as a ``CENTROIDS`` table."""
    dim = len(centroids.mean)
    rows = np.ascontiguousarray(centroids.vectors, "<f4")
    vectors = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4 * dim), len(rows), [None, pa.py_buffer(rows)]
    )
    write_table(
        storage,
        path,
        CENTROIDS,
        pa.table({"bin": pa.array(centroids.bins, pa.int32()), "centroid": vectors}),
        fingerprint=centroids.fingerprint,
        mean=centroids.mean.tolist(),
        halo=centroids.halo,
        max_cells_per_row=centroids.max_cells_per_row,
        **about,
    )


def read_centroids(storage: Storage, path: str) -> Centroids:
    """Read centroids.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is another table.
    """
    table = read_table(storage, path, CENTROIDS)
    about = read_about(storage, path)
    mean = np.array(about["mean"], np.float32)
    data = table["centroid"].combine_chunks().buffers()[1]
    return Centroids(
        mean=mean,
        vectors=np.frombuffer(data, "<f4").reshape(-1, len(mean)),
        bins=table["bin"].to_numpy(),
        halo=about["halo"],
        max_cells_per_row=about["max_cells_per_row"],
    )


def _distinct(vectors: Vectors, rows: np.ndarray, min_similarity: float) -> np.ndarray:
    """Leave out rows that are near copies of another."""
    together = CellRows(vectors, rows, np.zeros((len(rows), 1), np.int32))
    compared = compare_rows(together, Thresholds(min_similarity, min_similarity))
    distinct: np.ndarray = rows[compared.is_leader]
    return distinct


def _centred(rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    centred: torch.Tensor = torch.nn.functional.normalize(rows - mean, dim=1)
    return centred


def _k_means(
    rows: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Improve centroids; give them and how many rows each has."""
    half = proposal_type(rows.device)
    rows_half = rows.to(half)
    for _ in range(NUM_ITERATIONS):
        nearness, home = _nearest(rows_half, centroids.to(half))
        sums = torch.zeros_like(centroids).index_add_(0, home, rows)
        sizes = home.bincount(minlength=len(centroids))
        empty = (sizes == 0).nonzero().squeeze(1)
        # An empty cell starts again at one of the rows that are furthest from theirs.
        sums[empty] = rows[nearness.argsort()[: len(empty)]]
        centroids = torch.nn.functional.normalize(sums, dim=1)
    _, home = _nearest(rows_half, centroids.to(half))
    return centroids, home.bincount(minlength=len(centroids))


def _nearest(
    rows: torch.Tensor, centroids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    starts = range(0, len(rows), _BLOCK_ROWS)
    blocks = [(rows[i : i + _BLOCK_ROWS] @ centroids.T).max(dim=1) for i in starts]
    nearness = torch.cat([block.values for block in blocks])
    return nearness, torch.cat([block.indices for block in blocks])


def _bins_of(centroids: np.ndarray, sizes: np.ndarray, num_bins: int) -> np.ndarray:
    """Halve the cells along their longest axis until there are enough groups."""
    bins = np.zeros(len(centroids), np.int32)
    pending = [(np.arange(len(centroids)), 0, min(num_bins, len(centroids)))]
    while pending:
        cells, first, count = pending.pop()
        if count == 1:
            bins[cells] = first
            continue
        ours = centroids[cells] - centroids[cells].mean(axis=0)
        axis = np.linalg.eigh(ours.T @ ours).eigenvectors[:, -1]
        cells = cells[np.argsort(ours @ axis, kind="stable")]
        left = count // 2
        filled = np.cumsum(sizes[cells] + 1) / (sizes[cells] + 1).sum()
        cut = int(np.searchsorted(filled, left / count)) + 1
        cut = min(max(cut, left), len(cells) - (count - left))
        pending.append((cells[:cut], first, left))
        pending.append((cells[cut:], first + left, count - left))
    return bins
