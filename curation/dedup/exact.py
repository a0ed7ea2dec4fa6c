"""Samples whose image components have the same bytes, or the same pixels.

Only hashes are compared, shard by shard, so that memory is bounded however many shards
there are: where too many rows would be held, only a range of hashes is looked at, and the
shards are read again for the next.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from curation.dedup.preference import Preference, best_first, read_rows
from curation.dedup.rows import ReadColumns, row_ids
from curation.errors import TableError

NUM_HEX_DIGITS = 64  # of a sha256


def find_exact_duplicates(
    shards: Sequence[int],
    read: ReadColumns,
    preferences: Sequence[Preference],
    *,
    column: str = "sha256",
    max_rows_held: int = 20_000_000,
) -> pa.Table:
    """Find the samples that have the same hash as a preferred one.

    Args:
        shards: Ordinals of the shards to compare.
        read: Gives the columns ``column`` (64 hex digits; null where there is no image),
            ``error`` (null unless the sample is quarantined) and those of
            ``preferences``.
        preferences: Which of several copies stays; ties by ordinal, then row.
        column: The hash: ``sha256`` of the bytes, or ``pixel_sha256``.
        max_rows_held: Bounds the memory, at about 200 bytes a row.

    Returns:
        ``removed`` and ``survivor``: uint64, ids of ``curation/dedup/rows.py``, sorted by
        ``removed``. Every group of copies has one survivor, which is not removed.

    Raises:
        TableError: A hash has other than 64 hex digits.
    """
    found = [
        _removed(ids, read, preferences, column)
        for ids in _rows_with_copies(shards, read, column, max_rows_held)
    ]
    pairs = np.concatenate([*found, np.empty((2, 0), np.uint64)], axis=1)
    pairs = pairs[:, np.argsort(pairs[0])]
    return pa.table({"removed": pairs[0], "survivor": pairs[1]})


def _rows_with_copies(
    shards: Sequence[int], read: ReadColumns, column: str, max_rows_held: int
) -> Iterator[np.ndarray]:
    """Find ids of rows whose hashes begin alike, for one range of hashes at a time."""
    ranges = [(0, 1 << 64)]
    while ranges:
        low, high = ranges.pop()
        held: list[np.ndarray] = []  # (2, n): starts of hashes, and ids
        num_held = 0
        for shard in shards:
            table = read(shard, [column, "error"])
            starts = _hash_starts(table[column], table["error"], shard)
            new = _inside(starts, low, high)
            held.append(new)
            num_held += new.shape[1]
            while num_held > max_rows_held and high - low > 1:
                middle = (low + high) // 2
                ranges.append((middle, high))
                high = middle
                held = [_inside(part, low, high) for part in held]
                num_held = sum(part.shape[1] for part in held)
        starts, ids = np.concatenate([*held, np.empty((2, 0), np.uint64)], axis=1)
        yield ids[_has_equal(starts)]


def _inside(starts_and_ids: np.ndarray, low: int, high: int) -> np.ndarray:
    starts = starts_and_ids[0]
    inside = (starts >= np.uint64(low)) & (starts <= np.uint64(high - 1))
    return starts_and_ids[:, inside]


def _has_equal(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[group] > 1


def _hash_starts(
    hashes: pa.ChunkedArray, errors: pa.ChunkedArray, shard: int
) -> np.ndarray:
    """Give the first 64 bits of each hash, and the id of its row: ``(2, n)`` uint64."""
    usable = hashes.is_valid().to_numpy() & errors.is_null().to_numpy()
    rows = np.flatnonzero(usable)
    texts = hashes.take(pa.array(rows)).to_pylist()
    for text in texts:
        if len(text) != NUM_HEX_DIGITS:
            raise TableError(f"shard {shard}: a sha256 has 64 hex digits; found {text!r}")
    try:
        digests = bytes.fromhex("".join(texts))
    except ValueError as error:
        raise TableError(f"shard {shard}: a sha256 is no hex number: {error}") from error
    starts = np.frombuffer(digests, ">u8")[::4].astype(np.uint64)
    return np.stack([starts, row_ids(shard, rows)])


def _removed(
    ids: np.ndarray,
    read: ReadColumns,
    preferences: Sequence[Preference],
    column: str,
) -> np.ndarray:
    """Give removed ids and their survivors, ``(2, N)``, among rows that may be copies."""
    import polars as pl

    if not len(ids):
        return np.empty((2, 0), np.uint64)
    columns = [column, *(preference.column for preference in preferences)]
    ordered = best_first(read_rows(ids, read, columns), preferences, ["id"])
    first = ordered.with_columns(pl.col("id").first().over(column).alias("survivor"))
    removed = first.filter(pl.col("id") != pl.col("survivor"))
    return np.stack([removed["id"].to_numpy(), removed["survivor"].to_numpy()])
