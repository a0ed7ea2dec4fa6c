"""How many duplicates were missed: an estimate, because only a part is compared with all.

Cells lose pairs that lie across borders. How many is not to be hoped but measured: some
kept samples, drawn at random, are compared with every other kept one, cells or not.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curation.dedup.bins import read_home_vectors
from curation.dedup.resolve import Removals
from curation.dedup.rows import renumbered
from curation.dedup.state import State
from curation.dedup.vectors import BLOCK_COLUMNS, BLOCK_ROWS, Vectors, make_vectors

_NOBODY = np.empty(0, np.uint64)
_NORMAL_95 = 1.959964  # standard errors that hold 95% of a normal distribution


@dataclass(frozen=True, slots=True)
class MissedEstimate:
    """What share of the kept samples has a kept twin that it should have gone for."""

    num_probed: int
    """Kept samples that were compared with all kept ones."""
    num_missed: int
    """Of them, those with a kept twin."""
    num_kept: int
    """All kept samples, of which those probed were drawn."""

    @property
    def fraction(self) -> float:
        """The share; 0 where nothing was probed."""
        return self.num_missed / max(self.num_probed, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of the share; no wider than that if all were probed.

        Source: Wilson, Probable Inference, the Law of Succession, and Statistical
        Inference (1927).
        """
        if self.num_probed == self.num_kept:
            return self.fraction, self.fraction
        if not self.num_probed:
            return 0.0, 1.0
        z2 = _NORMAL_95**2 / self.num_probed
        middle = (self.fraction + z2 / 2) / (1 + z2)
        spread = self.fraction * (1 - self.fraction) / self.num_probed
        spread += z2 / (4 * self.num_probed)
        half = _NORMAL_95 * math.sqrt(spread) / (1 + z2)
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def recall(self, num_removed: int) -> tuple[float, tuple[float, float]]:
        """Give the share of the samples to be removed that were, with its 95% interval.

        Of two kept samples that are alike, one should have gone: of those missed, half.
        In larger groups more should have; they are hardly ever missed.

        Args:
            num_removed: Samples that were removed.
        """

        def at(fraction: float) -> float:
            missed = fraction * self.num_kept / 2
            return num_removed / (num_removed + missed) if missed else 1.0

        low, high = self.interval
        return at(self.fraction), (at(high), at(low))


def estimate_missed(
    state: State,
    shards: Sequence[int],
    removals: Removals,
    *,
    min_similarity: float,
    num_probes: int = 1000,
    released: np.ndarray = _NOBODY,
    seed: int = 0,
    device: str | None = None,
) -> MissedEstimate:
    """Estimate how many samples were kept though one that is kept is like them.

    Every bin is read twice, one at a time.

    Args:
        state: Has the vectors.
        shards: The state's ordinals of the shards that took part.
        removals: What was decided on them, with places in ``shards`` as ordinals.
        min_similarity: With which it was decided.
        num_probes: How many samples are compared with all.
        released: Ids of samples that stay; two of them may be alike.
        seed: Which samples are drawn.
        device: Where to compare; by default a GPU if there is one.
    """
    ids, array, num_kept = _drawn(_kept_vectors(state, shards, removals), num_probes, seed)
    missed = np.zeros(len(ids), bool)
    for others, vectors in _kept_vectors(state, shards, removals):
        together, _, _ = make_vectors(np.concatenate([array, vectors]), device=device)
        for one, other in _similar(together, len(ids), min_similarity):
            both = np.isin(ids[one], released) & np.isin(others[other], released)
            missed[one[(ids[one] != others[other]) & ~both]] = True
    return MissedEstimate(len(ids), int(missed.sum()), num_kept)


def _drawn(
    vectors: Iterable[tuple[np.ndarray, np.ndarray]], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw some samples evenly, by the lowest of one random number each; count all."""
    rng = np.random.default_rng(seed)
    ids, drawn, array, num_all = _NOBODY, np.empty(0), None, 0
    for more_ids, more in vectors:
        num_all += len(more_ids)
        ids = np.concatenate([ids, more_ids])
        drawn = np.concatenate([drawn, rng.random(len(more_ids))])
        array = more if array is None else np.concatenate([array, more])
        lowest = np.argsort(drawn)[:count]
        ids, drawn, array = ids[lowest], drawn[lowest], array[lowest]
    return ids, np.empty((0, 1), np.float16) if array is None else array, num_all


def _kept_vectors(
    state: State, shards: Sequence[int], removals: Removals
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read ids and vectors of kept samples, bin by bin, each sample once."""
    places = np.full(max(shards, default=0) + 1, -1)
    places[np.array(shards, np.int64)] = np.arange(len(shards))
    for bin_ in range(state.centroids.num_bins):
        ids, array = read_home_vectors(state, bin_, set(shards))
        ids = renumbered(ids, places)
        stays = np.flatnonzero(~np.isin(ids, removals.removed))
        yield ids[stays], array[stays]


def _similar(
    together: Vectors, num_probes: int, min_similarity: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find pairs of the first rows with the rest, by their places among either."""
    probes = np.arange(num_probes)
    others = np.arange(num_probes, len(together.rows))
    for start in range(0, num_probes, BLOCK_ROWS):
        left = probes[start : start + BLOCK_ROWS]
        left_half = together.half(left)
        for begin in range(0, len(others), BLOCK_COLUMNS):
            right = others[begin : begin + BLOCK_COLUMNS]
            one, other, _ = together.similar_pairs(
                left, right, min_similarity, left_half, together.half(right)
            )
            yield start + one, begin + other
