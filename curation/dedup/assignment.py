"""The first step of a batch: each shard's vectors go to the bins that their cells are in.

Shards are independent of each other, so that any number of processes may do this.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.centroids import assign_cells, home_similarity
from curation.dedup.rows import row_ids
from curation.dedup.state import Batch, State, read_parts
from curation.dedup.vectors import Unusable, Vectors, make_vectors
from curation.errors import InputError, TableError
from curation.tables import (
    CELL_ROWS,
    EMBEDDING,
    PART,
    embedding_column,
    write_table,
)

COMPUTED = ("centroid_similarity", "random")
"""Columns that samples can be preferred by and that no table has.

SemDeDup's "hard" is ``centroid_similarity asc``, its "easy" ``centroid_similarity desc``.
``random`` is drawn from the vector, so that it is the same in whatever batch.
"""


@dataclass(frozen=True, eq=False)
class ShardVectors:
    """What the state is told of a shard."""

    ordinal: int
    encoder: str
    """Fingerprint of the model that made the vectors."""
    vectors: np.ndarray
    """``(N, dim)`` float16 or float32, of unit length; zero where there is none."""
    ranks: pa.Table
    """``N`` rows, with the columns that the settings prefer by, save computed ones."""


@dataclass(frozen=True, eq=False)
class _Assigned:
    """A shard's vectors with their cells, those left out that can't be compared."""

    ordinal: int
    ids: np.ndarray
    cells: np.ndarray
    vectors: np.ndarray
    ranks: pa.Table
    unusable: Unusable


def assign_shards(
    state: State,
    batch: Batch,
    shards: Iterable[ShardVectors],
    *,
    max_rows_held: int = 500_000,
    device: str | None = None,
) -> None:
    """Write the vectors of shards to the bins that their cells are in.

    Shards that are there already are skipped. Other processes may assign other shards of
    the batch at the same time.

    Args:
        state: Gets the vectors.
        batch: Has the shards.
        shards: Some or all of them, made when they are asked for.
        max_rows_held: Vectors in memory, at about twice their size; the more, the fewer
            and larger are the files.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        TableError: Vectors are of another encoder, or there are more or fewer than ranks.
        InputError: A shard is none of the batch, or lacks a column of the preferences.
    """
    there = {ordinal for part in read_parts(state) for ordinal in part.ordinals}
    held: list[_Assigned] = []
    for shard in shards:
        if shard.ordinal in there:
            continue
        _check_shard(state, batch, shard)
        held.append(_assigned(state, shard, device))
        if sum(len(assigned.ids) for assigned in held) >= max_rows_held:
            _write_part(state, batch, held)
            held = []
    if held:
        _write_part(state, batch, held)


def _check_shard(state: State, batch: Batch, shard: ShardVectors) -> None:
    if shard.ordinal not in batch.shards:
        raise InputError(f"batch {batch.number} has no shard with ordinal {shard.ordinal}")
    name, _ = batch.shards[shard.ordinal]
    if shard.encoder != state.settings.encoder:
        raise TableError(
            f"{name}: its vectors are of encoder {shard.encoder}, and those of "
            f"{state.folder} are of {state.settings.encoder}; vectors of two encoders "
            "can't be compared, embed the shard again or begin another state"
        )
    if len(shard.vectors) != len(shard.ranks):
        raise TableError(
            f"{name}: {len(shard.vectors)} vectors, and {len(shard.ranks)} rows of ranks"
        )
    for preference in state.settings.preferences:
        if preference.column not in (*shard.ranks.column_names, *COMPUTED):
            raise InputError(
                f"{name}: prefer names {preference.column}, which is neither among "
                f"{', '.join(shard.ranks.column_names) or 'no columns'} nor among "
                f"{', '.join(COMPUTED)}"
            )


def _assigned(state: State, shard: ShardVectors, device: str | None) -> _Assigned:
    # As they will be read: what is compared later is what cells were chosen for.
    rounded = shard.vectors.astype(np.float16, copy=False)
    vectors, usable, unusable = make_vectors(rounded, device=device)
    rows = np.flatnonzero(usable)
    cells = assign_cells(vectors, rows, state.centroids)
    ranks = [
        _rank(state, preference.column, shard.ranks, vectors, rows, cells)
        for preference in state.settings.preferences
    ]
    return _Assigned(
        shard.ordinal,
        row_ids(shard.ordinal, rows),
        cells,
        rounded[rows],
        pa.table({f"rank_{i}": column for i, column in enumerate(ranks)}),
        unusable,
    )


def _rank(
    state: State,
    column: str,
    ranks: pa.Table,
    vectors: Vectors,
    rows: np.ndarray,
    cells: np.ndarray,
) -> pa.ChunkedArray | pa.Array:
    if column in ranks.column_names:
        return ranks[column].take(pa.array(rows))
    if column == "random":
        return pa.array(_drawn_from(vectors.rows.numpy()[rows]))
    return pa.array(home_similarity(vectors, rows, cells, state.centroids))


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


def _write_part(state: State, batch: Batch, held: Sequence[_Assigned]) -> None:
    """Write what is held, by bins, and then the record that says so."""
    name = f"{batch.number:05d}-{held[0].ordinal:08d}"
    ids = np.concatenate([assigned.ids for assigned in held])
    cells = np.concatenate([assigned.cells for assigned in held])
    vectors = np.concatenate([assigned.vectors for assigned in held])
    ranks = pa.concat_tables([a.ranks for a in held], promote_options="permissive")
    bins = np.where(cells >= 0, state.centroids.bins[cells], -1)
    sizes = {}
    for bin_ in np.unique(bins[bins >= 0]).tolist():
        rows = np.flatnonzero((bins == bin_).any(axis=1))
        here = np.where(bins[rows] == bin_, cells[rows], -1).astype("<i4")
        table = pa.table(
            {
                "id": ids[rows],
                "batch": pa.array(np.full(len(rows), batch.number), pa.int32()),
                "cells": _binary(here),
                EMBEDDING: embedding_column(vectors[rows], np.ones(len(rows), bool)),
            }
        )
        for rank in ranks.column_names:
            table = table.append_column(rank, ranks[rank].take(pa.array(rows)))
        path = state.rows_path(bin_, name)
        write_table(state.storage, path, CELL_ROWS, table, fingerprint=state.fingerprint)
        sizes[bin_] = len(rows)
    write_table(
        state.storage,
        state.path("parts", name),
        PART,
        pa.table(
            {
                "bin": pa.array(list(sizes), pa.int32()),
                "rows": pa.array(list(sizes.values()), pa.int64()),
            }
        ),
        fingerprint=state.fingerprint,
        batch=batch.number,
        ordinals=[assigned.ordinal for assigned in held],
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
