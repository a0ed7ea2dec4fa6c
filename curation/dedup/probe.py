"""How many duplicates were missed: an estimate, because only a part is compared with all.

Cells lose pairs that lie across borders. How many is not to be hoped but measured: some
kept samples, drawn at random, are compared with every kept one that comes after them, cells
or not. Of samples that are all alike each but the last has one after it, which is how
many of them should have gone; and every bin need be read but once.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curation.dedup.bins import read_home_vectors
from curation.dedup.resolve import Removals
from curation.dedup.rows import is_among, ordinals, places_in, renumbered
from curation.dedup.state import State, read_parts
from curation.dedup.vectors import BLOCK_COLUMNS, Vectors, make_vectors
from curation.tables import PART, read_table

_NOBODY = np.empty(0, np.uint64)
_PROBES_AT_ONCE = 256  # few, so that those of a block have nearly the same after them
_NORMAL_95 = 1.959964  # standard errors that hold 95% of a normal distribution


@dataclass(frozen=True, slots=True)
class MissedEstimate:
    """What share of the kept samples should have gone."""

    num_probed: int
    """Kept samples that were compared with all kept ones after them."""
    num_missed: int
    """Of them, those with a kept twin after them."""
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

        Args:
            num_removed: Samples that were removed.
        """

        def at(fraction: float) -> float:
            missed = fraction * self.num_kept
            return num_removed / (num_removed + missed) if missed else 1.0

        low, high = self.interval
        return at(self.fraction), (at(high), at(low))


def estimate_missed(
    state: State,
    shards: Sequence[int],
    removals: Removals,
    *,
    min_similarity: float,
    num_probes: int = 2000,
    released: np.ndarray = _NOBODY,
    seed: int = 0,
    device: str | None = None,
) -> MissedEstimate:
    """Estimate how many samples were kept though one that is kept is like them.

    Every bin is read once, one at a time. Samples are in order of the bin of their home
    cell, then of their id.

    Args:
        state: Has the vectors.
        shards: The state's ordinals of the shards that took part.
        removals: What was decided on them, with places in ``shards`` as ordinals.
        min_similarity: With which it was decided.
        num_probes: How many samples are compared with all after them.
        released: Ids of samples that stay; two of them may be alike.
        seed: Which samples are drawn.
        device: Where to compare; by default a GPU if there is one.
    """
    drawn, num_kept = _drawn(state, shards, removals, num_probes, seed)
    probes, missed = _NOBODY, np.zeros(0, bool)
    array = np.empty((0, len(state.centroids.mean)), np.float16)
    for ids, vectors in _kept_vectors(state, shards, removals):
        ours = np.flatnonzero(is_among(ids, drawn))
        starts = np.concatenate([np.zeros(len(probes), np.int64), ours + 1])
        probes = np.concatenate([probes, ids[ours]])
        array = np.concatenate([array, vectors[ours]])
        missed = np.concatenate([missed, np.zeros(len(ours), bool)])
        together, _, _ = make_vectors(np.concatenate([array, vectors]), device=device)
        for one, other in _similar(together, starts, min_similarity):
            both = is_among(probes[one], released) & is_among(ids[other], released)
            missed[one[(other >= starts[one]) & ~both]] = True
    return MissedEstimate(len(probes), int(missed.sum()), num_kept)


def _drawn(
    state: State, shards: Sequence[int], removals: Removals, count: int, seed: int
) -> tuple[np.ndarray, int]:
    """Draw ids of kept samples evenly, by the lowest random numbers; count all."""
    rng = np.random.default_rng(seed)
    places = places_in(shards)
    drawn, numbers, num_all = _NOBODY, np.empty(0), 0
    for part in read_parts(state):
        table = read_table(state.storage, state.part_path(part.name), PART, ["id"])
        ids = table["id"].to_numpy()
        ids = renumbered(ids[np.isin(ordinals(ids), shards)], places)
        ids = ids[~is_among(ids, removals.removed)]
        num_all += len(ids)
        drawn = np.concatenate([drawn, ids])
        numbers = np.concatenate([numbers, rng.random(len(ids))])
        lowest = np.argsort(numbers)[:count]
        drawn, numbers = drawn[lowest], numbers[lowest]
    return drawn, num_all


def _kept_vectors(
    state: State, shards: Sequence[int], removals: Removals
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read ids and vectors of kept samples, bin by bin, each sample once, by id."""
    places = places_in(shards)
    for bin_ in range(state.centroids.num_bins):
        ids, array = read_home_vectors(state, bin_, set(shards))
        ids = renumbered(ids, places)
        stays = np.flatnonzero(~is_among(ids, removals.removed))
        stays = stays[np.argsort(ids[stays])]
        yield ids[stays], array[stays]


def _similar(
    together: Vectors, starts: np.ndarray, min_similarity: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find pairs of the first rows with the rest, by their places among either.

    Args:
        together: The probes, then the others.
        starts: ``(probes,)`` From which of the others on each probe is compared; pairs
            with a few before it may be found too.
        min_similarity: From which two are similar.
    """
    num_probes, num_others = len(starts), len(together.rows) - len(starts)
    probes = np.arange(num_probes)
    left = together.half(probes)
    for begin in range(0, num_others, BLOCK_COLUMNS):
        end = min(begin + BLOCK_COLUMNS, num_others)
        others = num_probes + np.arange(begin, end)
        right = together.half(others)
        for first in range(0, num_probes, _PROBES_AT_ONCE):
            some = slice(first, first + _PROBES_AT_ONCE)
            if starts[some].min() < end:
                one, other, _ = together.similar_pairs(
                    probes[some], others, min_similarity, left[some], right
                )
                yield first + one, begin + other
