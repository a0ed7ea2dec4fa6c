"""Many tar headers at once: checksums of thousands, and all plain members of a window.

Belongs here: NumPy over header blocks. What is said of one header at a time, and what is
rare, belongs in ``tar_header.py``.
"""

from typing import NamedTuple

import numpy as np

from curation.tar_header import (
    BLOCK,
    CHECKSUM,
    CONTIGUOUS,
    FILE,
    PAX,
    SIZE,
    checksum_is_right,
)

_USTAR = np.frombuffer(b"ustar", np.uint8)
_TIME = np.frombuffer(b" mtime=", np.uint8)
_TENS = np.array([10, 1], np.int64)


class PlainMembers(NamedTuple):
    """Members whose one header block says all. Positions are blocks of the window."""

    headers: np.ndarray
    """``(N, 512)`` uint8"""
    header_starts: np.ndarray
    data_starts: np.ndarray
    stops: np.ndarray
    """Where the padding ends, which may be behind the window."""
    sizes: np.ndarray
    """``(N,)`` int64, in bytes."""


def plain_members(window: bytes) -> PlainMembers:
    """Take the members at the begin of a window that are plain, up to one that isn't.

    Fewer are taken where data looks like a header: the caller looks at the rest anyway.

    Plain is a file in ustar or GNU format whose own header says all, after a pax header
    at most that holds nothing but a time: webdataset writes one before every member. Each
    header must lie where the one before it says, and all checksums must be right.
    """
    num_blocks = len(window) // BLOCK
    blocks = np.frombuffer(window, np.uint8, num_blocks * BLOCK).reshape(-1, BLOCK)
    found = np.flatnonzero(blocks[:, 257] == _USTAR[0])
    found = found[(blocks[found, 257:262] == _USTAR).all(axis=1)]
    headers = blocks[found]
    sizes, plain = _octal(headers[:, SIZE])
    stops = found + 1 + (sizes + BLOCK - 1) // BLOCK
    of_time = headers[:, 156] == PAX
    if of_time.any():
        bodies = blocks[np.minimum(found[of_time] + 1, num_blocks - 1), :9]
        plain[of_time] &= _is_time(bodies, sizes[of_time])
    plain &= of_time | (headers[:, 156] == FILE) | (headers[:, 156] == CONTIGUOUS)
    plain &= checksums_are_right(headers)
    plain[:1] &= found[:1] == 0
    plain[1:] &= (stops[:-1] == found[1:]) & ~(of_time[:-1] & of_time[1:])
    num_plain = len(plain) if plain.all() else int(plain.argmin())
    rows = np.flatnonzero(~of_time[:num_plain])
    starts = found[rows]
    starts[rows > 0] -= 2 * of_time[rows[rows > 0] - 1]  # a time's body fits in a block
    return PlainMembers(headers[rows], starts, found[rows] + 1, stops[rows], sizes[rows])


def checksums_are_right(headers: np.ndarray) -> np.ndarray:
    """Tell for each header block whether its checksum is that of its bytes.

    Args:
        headers: ``(N, 512)`` uint8.

    Returns:
        ``(N,)`` bool.
    """
    fields = headers[:, CHECKSUM]
    claimed, octal = _octal(fields[:, :7])
    # the field itself counts as eight spaces
    rest = 8 * ord(" ") - fields.sum(axis=1, dtype=np.int64)
    right: np.ndarray = octal & (headers.sum(axis=1, dtype=np.uint32) + rest == claimed)
    for row in np.flatnonzero(~right):  # another notation, or wrong indeed
        right[row] = checksum_is_right(headers[row].tobytes())
    return right


def _octal(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read numbers of octal digits and one closing byte, and tell which are no such."""
    digits = fields[:, :-1] - np.uint8(ord("0"))  # what is below becomes a high number
    powers = 8 ** np.arange(digits.shape[1] - 1, -1, -1, dtype=np.int64)
    is_octal = (digits < 8).all(axis=1) & (fields[:, -1] <= ord(" "))
    return digits @ powers, is_octal


def _is_time(bodies: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Tell which pax bodies are one record, ``b"<size> mtime=…"``."""
    lengths = (bodies[:, :2] - np.uint8(ord("0"))).astype(np.int64) @ _TENS
    is_time: np.ndarray = (lengths == sizes) & (bodies[:, 2:] == _TIME).all(axis=1)
    return is_time
