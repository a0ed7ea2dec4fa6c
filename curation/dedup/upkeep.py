"""Bringing a state up to date: the three steps in turn, for one process.

Many machines can share the second and the third step (``assignment.py``, ``bins.py``); a
dataset that one machine compares in a night needs no more than this.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from curation.dedup.assignment import ShardVectors, add_shards
from curation.dedup.bins import compare_bin, pending_bins
from curation.dedup.centroids import ROWS_PER_CELL, CellSettings, fit_centroids
from curation.dedup.duplicates import ComparedShards
from curation.dedup.semantic import default_cells
from curation.dedup.state import (
    State,
    StateSettings,
    create_state,
    current_ordinals,
    open_state,
)
from curation.errors import NotFoundError
from curation.storage.base import Storage

ROWS_PER_BIN = 250_000  # that are held at once while a bin is compared
USUAL_FLOOR = 0.9  # pairs down to it are kept, so that a raised threshold costs nothing


@dataclass(frozen=True)
class EmbeddedShards:
    """The shards that are to be compared."""

    encoder: str
    """Fingerprint of the model that made all their vectors."""
    fingerprints: Mapping[str, str]
    """Name to fingerprint of the vectors, in the order that ordinals shall have."""
    num_rows: int
    """Of all of them."""
    read: Callable[[str], np.ndarray]
    """Gives the vectors of a shard: ``(N, dim)`` float16 of unit length, or zero."""


def compare_shards(
    storage: Storage, folder: str, shards: EmbeddedShards, min_similarity: float
) -> ComparedShards | None:
    """Compare what is new with all that is there.

    The cells are fitted once, to the shards of the first call, and then frozen.

    Args:
        storage: Holds the state.
        folder: The state's. It is of one encoder and one :func:`similarity_floor`.
        shards: All that there are now.
        min_similarity: The cosine from which two samples are to be copies.

    Returns:
        What :func:`~curation.dedup.duplicates.find_duplicates` takes; None if no sample
        has a vector, and there is nothing to compare.
    """
    try:
        state = open_state(storage, folder)
    except NotFoundError:
        sample, cells = _sample(shards)
        if not sample.any():
            return None
        state = _begin(storage, folder, shards, sample, cells, min_similarity)

    def read(name: str, ordinal: int) -> ShardVectors:
        vectors = shards.read(name)
        rank = np.zeros(len(vectors))  # all alike: a hint for speed, no more
        return ShardVectors(ordinal, shards.encoder, vectors, rank)

    add_shards(state, shards.fingerprints, read)
    for bin_ in pending_bins(state):
        compare_bin(state, bin_)
    return ComparedShards(state, current_ordinals(state, shards.fingerprints.items()))


def similarity_floor(min_similarity: float) -> float:
    """Give the similarity down to which pairs are kept for a threshold."""
    return min(USUAL_FLOOR, min_similarity)


def _begin(
    storage: Storage,
    folder: str,
    shards: EmbeddedShards,
    sample: np.ndarray,
    cells: CellSettings,
    min_similarity: float,
) -> State:
    floor = similarity_floor(min_similarity)
    settings = StateSettings(encoder=shards.encoder, similarity_floor=floor)
    centroids = fit_centroids(sample, cells, floor)
    return create_state(storage, folder, settings, centroids)


def _sample(shards: EmbeddedShards) -> tuple[np.ndarray, CellSettings]:
    """Take every n-th row of all shards, enough to fit the cells that they need."""
    if not shards.num_rows:
        return np.empty((0, 0), np.float16), CellSettings(1)
    num_cells = default_cells(shards.num_rows).num_cells
    step = max(1, shards.num_rows // (ROWS_PER_CELL * num_cells))
    parts = [shards.read(name)[::step] for name in shards.fingerprints]
    num_bins = min(num_cells, math.ceil(shards.num_rows / ROWS_PER_BIN))
    rows = np.concatenate([part for part in parts if len(part)])
    return rows[rows.any(axis=1)], CellSettings(num_cells, num_bins=num_bins)
