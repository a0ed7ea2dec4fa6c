"""Step: selection to filtered shard, members copied byte for byte.

A kept sample travels with all its components, each with the headers that it had: nothing
is decoded, re-encoded or renamed. Where the new members lie follows by arithmetic, so the
new shard's index needs no second look at it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import TableError
from curation.index import ShardIndex
from curation.storage.base import (
    Buffer,
    ByteRange,
    Part,
    Storage,
    StoredFile,
    check_unchanged,
    part_blocks,
)
from curation.tables import EMBEDDING
from curation.tar_header import ZERO_BLOCK

END_OF_ARCHIVE = 2 * ZERO_BLOCK  # POSIX asks for two; more would only fill up tape records

_PLACE_COLUMNS = ("header_start", "data_start", "end")


Watch = Callable[[ShardIndex], Callable[[Buffer], object]]
"""Given the index of a tar that is to be written, gives what is called with its bytes."""


def reshard(
    source: Storage,
    index: ShardIndex,
    kept: np.ndarray,
    output: Storage,
    path: str,
    watch: Watch | None = None,
) -> ShardIndex:
    """Write a tar of the kept samples of a shard.

    Samples keep their order, and the members of one end up side by side even where the
    source has others between them: readers that stream would take them for two samples.
    Directories and what belongs to no sample stay behind; pax headers that apply to all
    members come first. The same input gives the same bytes.

    Args:
        source: Where the shard is.
        index: Of the shard.
        kept: ``(samples,)`` bool, in the order of the index.
        output: Where to write; ranges are copied without passing through this process
            where both storages can.
        path: Of the new tar.
        watch: Whom to show the tar's bytes, in order, if they pass through this process.
            What it raises prevents that the tar appears.

    Returns:
        The index of the new tar.

    Raises:
        StaleError: The shard was replaced since it was indexed. Nothing is written.
        NotFoundError: The shard is gone.
    """
    check_unchanged(source, index.file)
    rows = _kept_components(index, kept)
    starts, ends = _column(rows, "header_start"), _column(rows, "end")
    headers = np.array(index.global_headers, np.int64).reshape(-1, 2)
    ranges = _merged(np.append(headers[:, 0], starts), np.append(headers[:, 1], ends))
    parts: list[Part] = [
        ByteRange(source, index.file.path, *place) for place in ranges.tolist()
    ]
    parts.append(END_OF_ARCHIVE)
    # the last word before the file appears: were all these bytes those that were indexed?
    unchanged = partial(check_unchanged, source, index.file)
    moved = _moved(rows, headers, StoredFile(path, 0, ""))
    if watch is None or output.copies(parts):
        output.write_parts(path, parts, unchanged)
    else:
        see = watch(moved)
        with output.open_writer(path) as file:
            for block in part_blocks(parts):
                see(block)
                file.write(block)
            unchanged()
    return replace(moved, file=output.stat(path))


def describe_kept(
    index: ShardIndex, kept: np.ndarray, tables: list[pa.Table], *, shard: str
) -> pa.Table:
    """Put together what is known of the kept samples: the table beside a filtered shard.

    Args:
        index: Of the raw shard.
        kept: ``(samples,)`` bool, in the order of the index.
        tables: Embeddings, scores …; each has a row for every sample, in any order. The
            first table that has a column gives it.
        shard: The raw shard's id.

    Returns:
        ``key``, ``source_shard``, ``source_ranges`` (byte ranges ``[start, stop)`` of the
        sample's members in the raw shard, with headers and padding), then all columns of
        the tables, vectors last. One row per kept sample, in the order of the index.

    Raises:
        TableError: A table has no row for a kept sample.
    """
    keys = pa.array(index.keys, pa.string()).filter(pa.array(kept, pa.bool_()))
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "key": keys,
        "source_shard": pa.repeat(pa.scalar(shard), len(keys)),
        "source_ranges": _source_ranges(index, kept),
    }
    for table in tables:
        found = pc.index_in(keys, value_set=table["key"].combine_chunks())
        if found.null_count:
            missing = keys.filter(found.is_null())[0].as_py()
            raise TableError(
                f"{shard}: a table has no row for {missing}, which is to be kept; the "
                "next run makes it again"
            )
        for name in table.column_names:
            if name not in columns:
                columns[name] = table[name].take(found)
    if EMBEDDING in columns:
        columns[EMBEDDING] = columns.pop(EMBEDDING)
    return pa.table(columns)


def _kept_components(index: ShardIndex, kept: np.ndarray) -> pa.Table:
    if len(kept) != len(index):
        raise TableError(
            f"{index.file.path}: the selection has {len(kept)} rows, its index has "
            f"{len(index)} samples; the next run makes them again"
        )
    members = np.diff(index.sample_starts)
    return index.components.filter(pa.array(np.repeat(kept, members), pa.bool_()))


def _column(rows: pa.Table, name: str) -> np.ndarray:
    column: np.ndarray = rows[name].to_numpy()
    return column


def _merged(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Join ranges of which one begins where the one before it ends."""
    first = np.append(True, starts[1:] != stops[:-1])[: len(starts)]
    last = np.append(first[1:], True)[: len(starts)]
    return np.stack([starts[first], stops[last]], axis=1)


def _moved(rows: pa.Table, headers: np.ndarray, file: StoredFile) -> ShardIndex:
    """Give the index of members that were written one behind the other."""
    lengths = np.append(
        headers[:, 1] - headers[:, 0], _column(rows, "end") - _column(rows, "header_start")
    )
    new_ends = np.cumsum(lengths)
    shift = (new_ends - lengths)[len(headers) :] - _column(rows, "header_start")
    for name in _PLACE_COLUMNS:
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.field(name), pa.array(_column(rows, name) + shift))
    numbers = _column(rows, "sample")
    renumbered = np.cumsum(np.diff(numbers, prepend=numbers[:1]) != 0)
    at = rows.schema.get_field_index("sample")
    rows = rows.set_column(at, rows.field("sample"), pa.array(renumbered, pa.int32()))
    header_stops = new_ends[: len(headers)]
    header_starts = header_stops - lengths[: len(headers)]
    moved_headers = zip(header_starts.tolist(), header_stops.tolist(), strict=True)
    return ShardIndex(file, rows.combine_chunks(), tuple(moved_headers))


def _source_ranges(index: ShardIndex, kept: np.ndarray) -> pa.Array:
    """Give each kept sample's byte ranges, adjacent members joined."""
    rows = _kept_components(index, kept)
    starts, ends = _column(rows, "header_start"), _column(rows, "end")
    numbers = _column(rows, "sample")
    joined = (starts[1:] == ends[:-1]) & (numbers[1:] == numbers[:-1])
    first = np.append(True, ~joined)[: len(rows)]
    last = np.append(~joined, True)[: len(rows)]
    owners = numbers[first]
    offsets = np.append(np.flatnonzero(np.diff(owners, prepend=-1)), len(owners))
    ranges = pa.StructArray.from_arrays(
        [pa.array(starts[first]), pa.array(ends[last])], ["start", "stop"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ranges)
