"""Keys that are numbers: digits of the shard, then digits of the row in it.

That is how img2dataset names samples, and what embeddings are ordered by in the chain
that ends with DALLE2-pytorch's loaders. How many digits are which is not in the keys.
"""

import numpy as np
import pyarrow as pa

from curation.errors import InputError, TableError

MAX_DIGITS = 18  # of a number that an int64 holds


def split_digits(
    keys: pa.Array | pa.ChunkedArray,
    where: str,
    *,
    index_width: int | None = None,
    shard_width: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read the shard and the row of every key.

    Args:
        keys: Strings of digits, of any lengths.
        where: What to call their place in errors.
        index_width: How many digits at the end are the row; or
        shard_width: how many at the beginning are the shard. One of both.

    Returns:
        ``(n,)`` int64 shards and ``(n,)`` int64 rows.

    Raises:
        InputError: A key has something else than digits, or not enough for both, or
            neither or both of the widths are given, or one is out of range.
        TableError: A key is null.
    """
    if (index_width is None) == (shard_width is None):
        raise InputError("keys are split by either index_width or shard_width")
    name = "shard_width" if index_width is None else "index_width"
    given = shard_width if index_width is None else index_width
    assert given is not None
    if not 1 <= given <= MAX_DIGITS:
        raise InputError(f"{name}={given} must be from 1 to {MAX_DIGITS}")
    offsets, characters = _characters(keys)
    lengths = np.diff(offsets)
    shards, rows = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    for length in np.unique(lengths).tolist():
        here = np.flatnonzero(lengths == length)
        cut = given if index_width is None else length - given
        digits = characters[offsets[here][:, None] + np.arange(length)] - ord("0")
        wrong = (digits > 9).any(axis=1)
        if not 0 < cut < length or max(cut, length - cut) > MAX_DIGITS or wrong.any():
            row = int(here[int(np.argmax(wrong))])
            raise InputError(
                f"{where}: expected keys of digits, some for the shard and some for the "
                f"row in it, by {name}={given}; found {keys[row].as_py()!r}"
            )
        shards[here] = _number(digits[:, :cut])
        rows[here] = _number(digits[:, cut:])
    return shards, rows


def _characters(keys: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Give where each key begins (and the last one ends), and the bytes of all."""
    column = keys.cast(pa.large_string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count:
        raise TableError(f"{column.null_count} of {len(column)} keys are null")
    _, offsets, data = column.buffers()
    if offsets is None:
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    starts = np.frombuffer(offsets, np.int64)[column.offset :][: len(column) + 1]
    return starts, np.frombuffer(data or b"", np.uint8)


def _number(digits: np.ndarray) -> np.ndarray:
    """Read ``(n, width)`` uint8 digits as ``(n,)`` int64."""
    powers = 10 ** np.arange(digits.shape[1] - 1, -1, -1, dtype=np.int64)
    number: np.ndarray = digits.astype(np.int64) @ powers
    return number
