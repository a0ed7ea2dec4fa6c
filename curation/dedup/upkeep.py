"""Bringing a state up to date with the shards that there are, and beginning it anew.

What is brought here is then compared, bin by bin (``bins.py``), by any number of machines.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from curation.dedup.assignment import ShardVectors, add_shards
from curation.dedup.centroids import ROWS_PER_CELL, CellSettings, fit_centroids
from curation.dedup.duplicates import similarity_floor
from curation.dedup.semantic import default_cells
from curation.dedup.state import State, StateSettings, create_state, open_state
from curation.errors import NotFoundError
from curation.storage.base import Storage

ROWS_PER_BIN = 250_000  # that are held at once while a bin is compared


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


@dataclass(frozen=True)
class Brought:
    """A state that has the vectors of all shards, in the bins that their cells are in."""

    state: State
    shards: tuple[tuple[str, str], ...]
    """Names, and fingerprints of the vectors, in the order that ordinals shall have."""
    num_new: int
    """Shards that it did not have."""


def bring_shards(
    storage: Storage, folder: str, shards: EmbeddedShards, min_similarity: float
) -> Brought | None:
    """Bring the vectors of new shards into a state; begin it if there is none.

    The cells are fitted once, to the shards of the first call, and then frozen. Only one
    process may do this at a time.

    Args:
        storage: Holds the state.
        folder: The state's. It is of one encoder and one
            :func:`~curation.dedup.duplicates.similarity_floor`.
        shards: All that there are now.
        min_similarity: The cosine from which two samples are to be copies.

    Returns:
        The state; None if no sample has a vector, and there is nothing to compare.
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

    num_new = add_shards(state, shards.fingerprints, read)
    return Brought(state, tuple(shards.fingerprints.items()), num_new)


def forget_state(storage: Storage, folder: str) -> None:
    """Delete a state, so that cells are fitted anew; nothing is done if there is none.

    What vouches for other files goes before them: if this is interrupted, what is left is
    a state that lacks some shards.
    """
    for kind in ("pairs", "parts", "rows", "batches"):
        for file in storage.list_files(f"{folder}/{kind}"):
            storage.delete(file.path)
    storage.delete(f"{folder}/centroids.parquet")


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
