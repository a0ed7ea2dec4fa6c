"""Samples whose images look alike pixel by pixel: 256-bit hashes that differ in few bits.

Every pair up to a distance of 31 is found, none is missed: of 16 words of 16 bits, two
hashes with at most 31 different bits have one word in which at most one bit differs. So
each hash looks up, in a table of each word, its own value and the 16 values one bit away.

Source: Norouzi, Punjani and Fleet, Fast Exact Search in Hamming Space with Multi-Index
Hashing, arXiv:1307.2982; hash and distance are those of PDQ, facebook/ThreatExchange.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curation.dedup.preference import order_of
from curation.errors import InputError

HASH_BYTES = 32
WORD_BITS = 16
NUM_WORDS = 8 * HASH_BYTES // WORD_BITS
MAX_DISTANCE = 2 * NUM_WORDS - 1
"""31 bits: the largest distance at which no pair is missed, and PDQ's own threshold."""

PAIRS_AT_ONCE = 1 << 18  # candidates compared together; more leave the cache


def find_perceptual_pairs(
    hashes: np.ndarray, rank: np.ndarray, *, max_distance: int = MAX_DISTANCE
) -> pa.Table:
    """Find the pairs of images whose hashes differ in few bits.

    Of images with the same hash, each is paired with the first of them and with the first
    of each close hash, which is what deciding needs: a million equal hashes give a
    million pairs. The time grows with the square of the number of different hashes.

    Args:
        hashes: ``(N, 32)`` uint8.
        rank: ``(N,)`` numbers; the higher is preferred, ties by row, NaN least.
        max_distance: Bits, from 0 to 31.

    Returns:
        ``row`` and ``better``: int64 row numbers, of which ``better`` is preferred, and
        ``distance``: uint8, bits that differ. Sorted by ``row``, then ``better``.

    Raises:
        InputError: An array has another shape or type, or ``max_distance`` is out of
            range.
    """
    _check(hashes, rank, max_distance)
    best_first = order_of(rank)
    ordered = np.ascontiguousarray(hashes[best_first])
    _, first, group = np.unique(ordered, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    members = _Members(first, group)
    found = [members.behind_their_first()]
    for left, right, distance in _close_pairs(ordered[first], max_distance):
        found.append(members.beside_the_first(left, right, distance))
        found.append(members.beside_the_first(right, left, distance, others_only=True))
    one, other, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    row, better = best_first[np.maximum(one, other)], best_first[np.minimum(one, other)]
    order = np.lexsort((better, row))
    return pa.table(
        {"row": row[order], "better": better[order], "distance": distance[order]}
    )


_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Two ends and their distance, uint8."""


class _Members:
    """Images by the hash that they share; an image is its place in order of preference."""

    def __init__(self, first: np.ndarray, group: np.ndarray) -> None:
        self.first = first
        self.group = group
        self.by_group = np.argsort(group, kind="stable")
        self.sizes = np.bincount(group, minlength=len(first))
        self.starts = np.cumsum(self.sizes) - self.sizes

    def behind_their_first(self) -> _Pairs:
        """Pair each image with the first that has its hash."""
        others = np.flatnonzero(self.first[self.group] != np.arange(len(self.group)))
        firsts = self.first[self.group[others]]
        return others, firsts, np.zeros(len(others), np.uint8)

    def beside_the_first(
        self,
        groups: np.ndarray,
        close: np.ndarray,
        distance: np.ndarray,
        *,
        others_only: bool = False,
    ) -> _Pairs:
        """Pair the images of groups with the first image of a close group each."""
        skipped = 1 if others_only else 0  # the first of a group leads its members
        sizes = self.sizes[groups] - skipped
        starts = np.repeat(self.starts[groups] + skipped, sizes)
        within = np.arange(len(starts)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        images = self.by_group[starts + within]
        return images, np.repeat(self.first[close], sizes), np.repeat(distance, sizes)


def _close_pairs(hashes: np.ndarray, max_distance: int) -> Iterator[_Pairs]:
    """Find pairs of different hashes that are close, each once."""
    quarters = np.ascontiguousarray(hashes).view(np.uint64).T.copy()
    words = np.ascontiguousarray(hashes).view(np.uint16)
    for number in range(NUM_WORDS):
        for left, right in _candidates(words[:, number]):
            distance = np.zeros(len(left), np.uint8)
            for quarter in quarters:  # after the second, nearly none is left
                distance += np.bitwise_count(quarter[left] ^ quarter[right])
                near = np.flatnonzero(distance <= max_distance)
                left, right, distance = left[near], right[near], distance[near]
            new = _first_close_word(words, left, right) == number
            yield left[new], right[new], distance[new]


def _candidates(word: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find pairs whose word differs in at most one bit, each once, some at a time."""
    by_value = np.argsort(word, kind="stable")
    values = word[by_value].astype(np.int64)
    starts = np.searchsorted(values, np.arange((1 << WORD_BITS) + 1))
    place = np.arange(len(word))
    for flipped in (0, *(1 << bit for bit in range(WORD_BITS))):
        low = place + 1 if flipped == 0 else starts[values ^ flipped]
        high = starts[(values ^ flipped) + 1]
        # Only from the value without the bit to the one with it, so as not to come twice.
        counts = np.where(values & flipped == 0, high - low, 0)
        yield from _listed(by_value, low, counts)


def _listed(
    by_value: np.ndarray, low: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """List pairs given as a range of partners for each place, some at a time."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start] - counts[start]
        stop = max(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right"), start + 1)
        some = counts[start:stop]
        ends = np.cumsum(some)
        left = np.repeat(by_value[start:stop], some)
        offsets = np.repeat(low[start:stop] - (ends - some), some)
        yield left, by_value[offsets + np.arange(len(left))]
        start = int(stop)


def _first_close_word(words: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give the first word in which two hashes differ by at most one bit."""
    is_close = np.bitwise_count(words[left] ^ words[right]) <= 1
    first: np.ndarray = np.argmax(is_close, axis=1)
    return first


def _check(hashes: np.ndarray, rank: np.ndarray, max_distance: int) -> None:
    if hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES or hashes.dtype != np.uint8:
        raise InputError(
            f"hashes: expected (N, {HASH_BYTES}) uint8; found {hashes.shape} {hashes.dtype}"
        )
    if rank.shape != (len(hashes),):
        raise InputError(f"rank: expected ({len(hashes)},); found {rank.shape}")
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise InputError(
            f"max_distance is {max_distance}; expected 0 to {MAX_DISTANCE}, beyond which "
            "pairs would be missed"
        )
