"""The first step of a batch: each shard's vectors go to the bins that their cells are in.

Shards are independent of each other, so that any number of processes may do this.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.centroids import assign_cells, home_similarity
from curation.dedup.duplicates import COMPUTED
from curation.dedup.rows import ordinals, row_ids, rows_in_shard
from curation.dedup.state import State, begin_batch, read_batches, read_parts
from curation.dedup.vectors import Unusable, make_vectors
from curation.errors import InputError, StaleError, TableError
from curation.tables import (
    CELL_ROWS,
    EMBEDDING,
    PART,
    embedding_column,
    read_table,
    write_table,
)


@dataclass(frozen=True, eq=False)
class ShardVectors:
    """What the state is told of a shard."""

    ordinal: int
    encoder: str
    """Fingerprint of the model that made the vectors."""
    vectors: np.ndarray
    """``(N, dim)`` float16 or float32, of unit length; zero where there is none."""
    rank: np.ndarray
    """``(N,)`` numbers, the higher is compared first. Whatever they are, the decision is
    the same; it takes least where they are what samples are preferred by."""


@dataclass(frozen=True, eq=False)
class _Assigned:
    """A shard's vectors with their cells, those left out that can't be compared."""

    ordinal: int
    ids: np.ndarray
    cells: np.ndarray
    vectors: np.ndarray
    rank: np.ndarray
    centroid_similarity: np.ndarray
    length_error: float
    unusable: Unusable


def add_shards(
    state: State,
    shards: Mapping[str, str],
    read: Callable[[str, int], ShardVectors],
    *,
    max_rows_held: int = 500_000,
    device: str | None = None,
) -> int:
    """Bring shards into a state that are not in it as they are now.

    Only one process may do this at a time. If it is interrupted, doing it again goes on
    from there.

    Args:
        state: Gets the vectors.
        shards: Name to fingerprint of the vectors, of all that there are now.
        read: Gives a shard by its name and the ordinal that it is to have.
        max_rows_held: As :func:`assign_shards` takes it.
        device: As there.

    Returns:
        How many shards were not there.

    Raises:
        TableError: As :func:`assign_shards`.
    """
    begin_batch(state, shards)
    there = {ordinal for part in read_parts(state) for ordinal in part.ordinals}
    missing = {
        ordinal: name
        for batch in read_batches(state)
        for ordinal, (name, made_from) in batch.shards.items()
        if ordinal not in there and shards.get(name) == made_from
    }
    new = (read(name, ordinal) for ordinal, name in missing.items())
    assign_shards(state, new, max_rows_held=max_rows_held, device=device)
    return len(missing)


def assign_shards(
    state: State,
    shards: Iterable[ShardVectors],
    *,
    max_rows_held: int = 500_000,
    device: str | None = None,
) -> None:
    """Write the vectors of shards to the bins that their cells are in.

    Shards that are there already are skipped. Other processes may assign other shards at
    the same time.

    Args:
        state: Gets the vectors.
        shards: Some or all of those in batches, made when they are asked for.
        max_rows_held: Vectors in memory, at about twice their size; the more, the fewer
            and larger are the files.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        TableError: Vectors are of another encoder, or there are more or fewer than ranks.
        InputError: A shard is in no batch.
    """
    names = {
        o: name for batch in read_batches(state) for o, (name, _) in batch.shards.items()
    }
    there = {ordinal for part in read_parts(state) for ordinal in part.ordinals}
    held: list[_Assigned] = []
    for shard in shards:
        if shard.ordinal in there:
            continue
        if shard.ordinal not in names:
            raise InputError(f"{state.folder}: no batch has a shard {shard.ordinal}")
        _check_shard(state, names[shard.ordinal], shard)
        held.append(_assigned(state, shard, device))
        if sum(len(assigned.ids) for assigned in held) >= max_rows_held:
            _write_part(state, held)
            held = []
    if held:
        _write_part(state, held)


def read_computed(state: State, ordinal: int, num_rows: int) -> pa.Table:
    """Read the columns that are computed of the samples of a shard.

    Args:
        state: Has the shard.
        ordinal: Of the shard.
        num_rows: How many samples it has.

    Returns:
        ``centroid_similarity``, float32, and ``random``, uint64, one row a sample; null
        for those that can't be compared.

    Raises:
        StaleError: The shard is not in the state.
    """
    part = next((p for p in read_parts(state) if ordinal in p.ordinals), None)
    if part is None:
        raise StaleError(f"{state.folder}: shard {ordinal} was not assigned; do that first")
    table = read_table(state.storage, state.part_path(part.name), PART)
    ids = table["id"].to_numpy()
    ours = np.flatnonzero(ordinals(ids) == ordinal)
    place = np.full(num_rows, -1)
    place[rows_in_shard(ids[ours])] = ours
    chosen = pa.array(place, mask=place < 0)
    return table.select(COMPUTED).take(chosen)


def _check_shard(state: State, name: str, shard: ShardVectors) -> None:
    if shard.encoder != state.settings.encoder:
        raise TableError(
            f"{name}: its vectors are of encoder {shard.encoder}, and those of "
            f"{state.folder} are of {state.settings.encoder}; vectors of two encoders "
            "can't be compared, embed the shard again or begin another state"
        )
    if shard.rank.shape != (len(shard.vectors),):
        raise TableError(
            f"{name}: {len(shard.vectors)} vectors, and ranks of shape {shard.rank.shape}"
        )


def _assigned(state: State, shard: ShardVectors, device: str | None) -> _Assigned:
    # As they will be read: what is compared later is what cells were chosen for.
    rounded = shard.vectors.astype(np.float16, copy=False)
    vectors, usable, unusable = make_vectors(rounded, device=device)
    rows = np.flatnonzero(usable)
    cells = assign_cells(vectors, rows, state.centroids)
    return _Assigned(
        shard.ordinal,
        row_ids(shard.ordinal, rows),
        cells,
        rounded[rows],
        shard.rank[rows].astype(np.float64),
        home_similarity(vectors, rows, cells, state.centroids),
        vectors.length_error,
        unusable,
    )


def _drawn_from(vectors: np.ndarray) -> np.ndarray:
    """Draw a number for each vector, the same for the same one."""
    numbers = np.zeros(len(vectors), np.uint64)
    # The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), once per number.
    for column in np.ascontiguousarray(vectors).view(np.uint16).T:
        numbers = (numbers ^ column) * np.uint64(0x9E3779B97F4A7C15)
        numbers ^= numbers >> np.uint64(30)
        numbers *= np.uint64(0xBF58476D1CE4E5B9)
        numbers ^= numbers >> np.uint64(27)
    return numbers


def _write_part(state: State, held: Sequence[_Assigned]) -> None:
    """Write what is held, by bins, and then the record that vouches for it."""
    name = f"{held[0].ordinal:08d}"
    ids = np.concatenate([assigned.ids for assigned in held])
    cells = np.concatenate([assigned.cells for assigned in held])
    vectors = np.concatenate([assigned.vectors for assigned in held])
    rank = np.concatenate([assigned.rank for assigned in held])
    bins = np.where(cells >= 0, state.centroids.bins[cells], -1)
    filled = np.unique(bins[bins >= 0]).tolist()
    for bin_ in filled:
        rows = np.flatnonzero((bins == bin_).any(axis=1))
        here = np.where(bins[rows] == bin_, cells[rows], -1).astype("<i4")
        table = pa.table(
            {
                "id": ids[rows],
                "rank": rank[rows],
                "cells": _binary(here),
                EMBEDDING: embedding_column(vectors[rows], np.ones(len(rows), bool)),
            }
        )
        path = state.rows_path(bin_, name)
        write_table(state.storage, path, CELL_ROWS, table, fingerprint=state.fingerprint)
    similarity = np.concatenate([assigned.centroid_similarity for assigned in held])
    write_table(
        state.storage,
        state.part_path(name),
        PART,
        pa.table(
            {
                "id": ids,
                "centroid_similarity": similarity,
                "random": _drawn_from(vectors),
            }
        ),
        fingerprint=state.fingerprint,
        ordinals=[assigned.ordinal for assigned in held],
        bins=filled,
        length_error=max(assigned.length_error for assigned in held),
        unusable=_summed([assigned.unusable for assigned in held]),
    )


def _binary(cells: np.ndarray) -> pa.Array:
    """Make a column of rows of int32."""
    kind = pa.binary(4 * cells.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(
        kind, len(cells), [None, pa.py_buffer(np.ascontiguousarray(cells))]
    )


def _summed(unusable: Sequence[Unusable]) -> dict[str, int]:
    counts = [asdict(one) for one in unusable]
    return {name: sum(count[name] for count in counts) for name in counts[0]}
