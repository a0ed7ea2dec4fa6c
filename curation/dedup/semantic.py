"""Vectors that are nearly the same, in memory.

What this gives is the greedy leader's answer: rows are taken in order of preference, and
one is removed if and only if a kept row is at least ``min_similarity`` like it. So every
removed row has a kept one that stands for it, and no two kept rows are alike. Only rows
of the same or neighbouring cells are compared (``centroids.py``), which loses next to
nothing; up to 8192 rows there is one cell, and the answer is exact.

For more rows than memory holds, and for shards that come and go, see ``state.py``.
"""

import json
import math
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import torch

from curation.dedup.centroids import (
    ROWS_PER_CELL,
    CellSettings,
    assign_cells,
    fit_centroids,
)
from curation.dedup.comparison import CellRows, Pairs, Thresholds, compare_rows
from curation.dedup.decision import Checked, check_rows, decide
from curation.dedup.preference import order_of
from curation.dedup.resolve import SEMANTIC, Edges, Removals, make_edges
from curation.dedup.vectors import Vectors, make_vectors
from curation.errors import InputError
from curation.tables import METADATA_KEY

ROWS_IN_ONE_CELL = 8192
"""Up to so many rows, one cell is as fast as several."""


def find_semantic_duplicates(
    vectors: np.ndarray,
    rank: np.ndarray,
    *,
    min_similarity: float,
    cells: CellSettings | None = None,
    normalize: bool = False,
    device: str | None = None,
) -> pa.Table:
    """Find the rows that are removed because a preferred row that is kept is like them.

    In one cell, the answer depends on ``rank`` alone, not on the order of rows; in several,
    it differs by what the cells lose. A row that holds NaN or an infinity, is zero, or
    isn't of unit length is like no other.

    Args:
        vectors: ``(N, dim)`` float16 or float32, rows of unit length. May be a
            ``numpy.memmap``; no copy is made.
        rank: ``(N,)`` numbers; the higher is preferred, ties by row. NaN is preferred
            least.
        min_similarity: Cosine in (0, 1] from which two rows are copies. Higher removes
            fewer.
        cells: How rows are grouped; by default one cell up to 8192 rows, and about
            ``sqrt(N / 2)`` beyond.
        normalize: Make rows unit length first, in a float32 copy, instead of leaving out
            those that aren't.
        device: Where to compute, such as ``cuda:0``; by default a GPU if there is one.

    Returns:
        ``removed`` and ``survivor``: int64 row numbers, and ``similarity``: float32, their
        cosine. Sorted by ``removed``, each of which comes once; no survivor is removed.
        The schema's metadata has, as JSON under ``curation``, ``rows`` and how many
        took no part: ``not_finite``, ``zero``, ``not_unit_length``.

    Raises:
        InputError: An array has the wrong shape or type, or ``min_similarity`` is out of
            range.

    Source:
        The rule is the greedy leader's (Hartigan, Clustering Algorithms, 1975). That of
        Abbas et al., SemDeDup, arXiv:2303.09540, removes a row also for the sake of one
        that is removed itself; its epsilon is ``1 - min_similarity``.
    """
    if not 0 < min_similarity <= 1:
        raise InputError(f"min_similarity is {min_similarity}; expected more than 0, to 1")
    if rank.shape != (len(vectors),):
        raise InputError(f"rank: expected ({len(vectors)},); found {rank.shape}")
    checked, usable, unusable = make_vectors(vectors, device=device, normalize=normalize)
    order = order_of(rank)
    places = order[usable[order]]
    rows = _in_cells(checked, places, cells or default_cells(len(places)), min_similarity)
    removals = _decide(rows, Thresholds(min_similarity, min_similarity))
    removed = rows.places[removals.removed.astype(np.int64)]
    survivor = rows.places[removals.survivor.astype(np.int64)]
    by_row = np.argsort(removed)
    table = pa.table(
        {
            "removed": removed[by_row],
            "survivor": survivor[by_row],
            "similarity": removals.similarity[by_row],
        }
    )
    about = json.dumps({"rows": len(vectors)} | asdict(unusable))
    return table.replace_schema_metadata({METADATA_KEY: about.encode()})


def default_cells(num_rows: int) -> CellSettings:
    """Give the cells that so many rows are compared fastest in."""
    if num_rows <= ROWS_IN_ONE_CELL:
        return CellSettings(num_cells=1)
    return CellSettings(num_cells=round(math.sqrt(num_rows / 2)))


def _in_cells(
    vectors: Vectors, places: np.ndarray, settings: CellSettings, min_similarity: float
) -> CellRows:
    """Put rows into cells that are fitted to some of them."""
    if settings.num_cells == 1 or len(places) < 2:
        return CellRows(vectors, places, np.zeros((len(places), 1), np.int32))
    rng = np.random.default_rng(settings.seed)
    num_sampled = min(len(places), ROWS_PER_CELL * settings.num_cells)
    sampled = np.sort(rng.choice(places, num_sampled, replace=False))
    sample = vectors.rows[torch.from_numpy(sampled)].numpy()
    device = str(vectors.device)
    centroids = fit_centroids(sample, settings, min_similarity, device=device)
    return CellRows(vectors, places, assign_cells(vectors, places, centroids))


def _decide(rows: CellRows, thresholds: Thresholds) -> Removals:
    """Compare rows, and decide; ids are places in the order of preference."""

    def edges_of(pairs: Pairs) -> Edges:
        similarity = rows.vectors.cosines(rows.places[pairs.row], rows.places[pairs.better])
        return make_edges(pairs.row, pairs.better, similarity, SEMANTIC)

    def check(unsure: np.ndarray, removed: np.ndarray) -> Checked:
        is_kept = np.ones(len(rows), bool)
        is_kept[removed.astype(np.int64)] = False
        kept = np.flatnonzero(is_kept)
        some = np.searchsorted(kept, unsure.astype(np.int64))
        stays = np.zeros(len(kept), bool)
        pairs, unsettled = check_rows(rows.where(kept), some, stays, thresholds)
        return Checked(edges_of(pairs.among(kept)), kept[unsettled].astype(np.uint64))

    compared = compare_rows(rows, thresholds)
    followers = np.flatnonzero(~compared.is_leader).astype(np.uint64)
    return decide(edges_of(compared.pairs), followers, check, _in_order)


def _in_order(rows: np.ndarray) -> np.ndarray:
    """Give places to rows that are in order of preference already."""
    return rows.astype(np.int64)
