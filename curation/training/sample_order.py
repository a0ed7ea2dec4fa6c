"""Which samples make which batch of an epoch: arithmetic, no files.

The order is a function of the seed, the epoch and the rank alone. So every rank knows its
own part without a word from the others, an epoch can be taken up at any batch, and the
number of worker processes changes nothing (but see ``lanes``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, gcd

import numpy as np

from curation.errors import InputError


@dataclass(frozen=True)
class SampleOrder:
    """The batches of every epoch, for one rank."""

    counts: tuple[int, ...]
    """Samples of each shard. Those of shard 0 are numbered first, from 0."""
    batch_size: int
    seed: int = 0
    shuffle_shards: bool = True
    """Take the shards in another order in every epoch."""
    shuffle: int | None = None
    """Mix samples: None, not; 0, all with all; n, the next n with each other, for data that
    is read from one end to the other."""
    resample: bool = False
    """Draw shards with replacement, without end, instead of each one once."""
    rank: int = 0
    world_size: int = 1
    lanes: int = 1
    """How many worker processes take batches in turn. With more than one, what is mixed
    with each other goes to one of them, which then reads those bytes alone."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size} must be at least 1")
        if self.shuffle is not None and self.shuffle < 0:
            raise InputError(f"shuffle_num={self.shuffle} must be at least 0")
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"rank {self.rank} is not one of world_size={self.world_size}")
        if self.num_samples < (1 if self.resample else self.world_size):
            raise InputError(
                f"{self.num_samples} samples are not enough for {self.world_size} ranks: "
                "each needs at least one"
            )

    @property
    def num_samples(self) -> int:
        """Samples of all ranks."""
        return sum(self.counts)

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch, the same for every rank; None if it never ends."""
        if self.resample:
            return None
        most = ceil(self.num_samples / self.world_size)
        if self.batch_size == 1:  # a rank with one sample more can't have a batch more
            most = self.num_samples // self.world_size
        return ceil(most / self.batch_size)

    def batches(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """Give the batches of an epoch from ``first`` on.

        Over all ranks, every sample is in exactly one of them, and every rank has as many
        batches. Where samples can't be shared out evenly, the last two batches of a rank
        are smaller; with ``batch_size=1`` the last one may have two samples.

        Yields:
            ``(b,)`` int64 sample numbers, none of them empty.
        """
        if self.resample:
            yield from self._endless_batches(epoch, first)
            return
        mine = self._samples_of_rank(epoch)
        sizes = self._batch_sizes(len(mine))
        lanes = self._lanes(mine, epoch)
        taken = [0] * len(lanes)
        for batch, size in enumerate(sizes):
            found = _take(lanes, taken, batch % len(lanes), size)
            if batch >= first:
                yield found

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *self.counts])

    def _samples_of_rank(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, epoch])
        if self.shuffle == 0:
            samples = random.permutation(self.num_samples)
        elif self.shuffle_shards:
            samples = self._rows_of(random.permutation(len(self.counts)))
        else:
            samples = np.arange(self.num_samples)
        first = self.rank * self.num_samples // self.world_size
        last = (self.rank + 1) * self.num_samples // self.world_size
        return samples[first:last]

    def _rows_of(self, shards: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [np.arange(self._starts[s], self._starts[s + 1]) for s in shards.tolist()]
        )

    def _batch_sizes(self, num_samples: int) -> list[int]:
        num_batches = self.num_batches
        assert num_batches is not None
        sizes = [self.batch_size] * num_batches
        sizes[-1] = num_samples - sum(sizes[:-1])
        if not sizes[-1]:  # other ranks have one sample more, and a batch for it
            sizes[-2:] = [ceil(self.batch_size / 2), self.batch_size // 2]
        return sizes

    def _lanes(self, mine: np.ndarray, epoch: int) -> list[np.ndarray]:
        """Mix the samples of a rank, and deal them out to the workers."""
        if not self.shuffle:
            return [mine]
        groups = [mine[at : at + self.shuffle] for at in range(0, len(mine), self.shuffle)]
        random = np.random.default_rng([self.seed, epoch, self.rank])
        groups = [random.permutation(group) for group in groups]
        dealt = [groups[lane :: self.lanes] for lane in range(self.lanes)]
        return [np.concatenate(lane) for lane in dealt if lane]

    def _endless_batches(self, epoch: int, first: int) -> Iterator[np.ndarray]:
        lanes = [self._endless_lane(epoch, lane) for lane in range(self.lanes)]
        batch = 0
        while True:
            found = next(lanes[batch % self.lanes])
            if batch >= first:
                yield found
            batch += 1

    def _endless_lane(self, epoch: int, lane: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng([self.seed, epoch, self.rank, lane])
        filled = np.flatnonzero(self.counts)
        waiting = np.empty(0, np.int64)
        while True:
            while len(waiting) < max(self.batch_size, self.shuffle or 0):
                rows = self._rows_of(random.choice(filled, 1))
                waiting = np.append(waiting, rows)
            if self.shuffle is not None:
                waiting = random.permutation(waiting)
            for _ in range(len(waiting) // self.batch_size):
                batch, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
                yield batch


def spread(count: int, first: int = 0) -> Iterator[int]:
    """Give every number below ``count`` once, neighbours far apart, from ``first`` on.

    It is how others are tried in the place of what can't be given: a run of damaged
    samples, such as a whole tar, is left behind by the first step.
    """
    step = max(1, round(count * 0.618))  # the golden section: the steps never bunch
    while gcd(step, count) > 1:
        step += 1
    for turn in range(count):
        yield (first + turn * step) % count


def _take(lanes: list[np.ndarray], taken: list[int], lane: int, size: int) -> np.ndarray:
    """Take samples from a lane, and from those after it once it is empty."""
    parts = []
    while size:
        part = lanes[lane][taken[lane] : taken[lane] + size]
        taken[lane] += len(part)
        size -= len(part)
        parts.append(part)
        lane = (lane + 1) % len(lanes)
    return np.concatenate(parts)
