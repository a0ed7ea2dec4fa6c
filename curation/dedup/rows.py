"""One number for one sample of many shards.

A shard's ordinal is in the upper 32 bits and the sample's row in the lower. Two shards
may have a sample with the same key; a row is never ambiguous, and takes eight bytes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

ROW_BITS = 32

ReadColumns = Callable[[int, Sequence[str]], pa.Table]
"""Gives columns of the samples of a shard by its ordinal, one row a sample, in order."""


def row_ids(ordinal: int, rows: np.ndarray | int) -> np.ndarray:
    """Number rows of a shard.

    Args:
        ordinal: The shard's, from 0 to 2^32 - 1.
        rows: Rows of the shard's tables, or how many there are, for all of them.

    Returns:
        uint64, of the same length.
    """
    if isinstance(rows, int):
        rows = np.arange(rows)
    return (np.uint64(ordinal) << np.uint64(ROW_BITS)) | rows.astype(np.uint64)


def ordinals(ids: np.ndarray) -> np.ndarray:
    """Give the shard's ordinal of each id, int64."""
    return (ids >> np.uint64(ROW_BITS)).astype(np.int64)


def rows_in_shard(ids: np.ndarray) -> np.ndarray:
    """Give the row in its shard of each id, int64."""
    return (ids & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)


def renumbered(ids: np.ndarray, new_ordinals: np.ndarray) -> np.ndarray:
    """Give ids whose shards have other ordinals.

    Args:
        ids: uint64.
        new_ordinals: The new ordinal of each old one, int64.
    """
    upper = new_ordinals[ordinals(ids)].astype(np.uint64) << np.uint64(ROW_BITS)
    found: np.ndarray = upper | rows_in_shard(ids).astype(np.uint64)
    return found


def places_in(shards: Sequence[int]) -> np.ndarray:
    """Give for each ordinal its place in ``shards``, -1 if it isn't there."""
    places = np.full(max(shards, default=0) + 1, -1)
    places[np.array(shards, np.int64)] = np.arange(len(shards))
    return places


def is_among(ids: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Tell which ids are among some others: bool, as many as ``ids``.

    NumPy's own ``isin`` hashes the others, which takes many times as long.
    """
    if not len(some):
        return np.zeros(len(ids), bool)
    ordered = np.sort(some)
    place = np.searchsorted(ordered, ids)
    found: np.ndarray = ordered[np.minimum(place, len(ordered) - 1)] == ids
    return found


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Sort numbers, and leave each there once.

    NumPy's own ``unique`` hashes them, which is fifty times slower from a million on.
    """
    ordered = np.sort(numbers)
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    found: np.ndarray = ordered[is_first]
    return found
