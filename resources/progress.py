"""Telling whoever waits how far a run is.

A run started by Dagster tells its log; one started by the ``curate`` command tells the
terminal, by a member of its own.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta

import dagster as dg

from curation.texts import printable


class Progress(ABC):
    """What is told as an asset works through its shards."""

    @abstractmethod
    def start(self, asset: str, num_shards: int) -> None:
        """Say that so many shards of an asset are about to be made."""

    @abstractmethod
    def move(self, shard: str, num_samples: int, total: int) -> None:
        """Say that so many of a shard's samples are done; several shards may be under way.

        Not every shard, nor every asset, tells this of itself.
        """

    @abstractmethod
    def advance(self, shard: str, num_samples: int) -> None:
        """Say that a shard is done."""

    @abstractmethod
    def fail(self, shard: str, reason: str) -> None:
        """Say that a shard could not be made."""


class Tally:
    """What is done of an asset, shards under way included."""

    def __init__(self, num_shards: int) -> None:
        """Begin to count, and to take the time."""
        self.num_shards = num_shards
        self.num_ended = 0
        """Shards that are done or failed."""
        self._num_samples = 0
        self._began = time.monotonic()
        self._under_way: dict[str, tuple[int, int]] = {}
        """Samples that are done, and all, by shard."""

    def move(self, shard: str, num_samples: int, total: int) -> None:
        """Note how far a shard is."""
        self._under_way[shard] = num_samples, max(total, 1)

    def end(self, shard: str, num_samples: int = 0) -> None:
        """Count a shard that is done, or that failed and has no samples."""
        self._under_way.pop(shard, None)
        self.num_ended += 1
        self._num_samples += num_samples

    @property
    def shards(self) -> float:
        """Shards that are done, and the fractions of those under way."""
        return self.num_ended + sum(
            done / total for done, total in self._under_way.values()
        )

    @property
    def num_samples(self) -> int:
        """Samples that are done, of all shards but the failed ones."""
        return self._num_samples + sum(done for done, _ in self._under_way.values())

    @property
    def samples_per_second(self) -> float:
        """Since the asset began."""
        return self.num_samples / max(time.monotonic() - self._began, 1e-9)

    @property
    def left(self) -> timedelta:
        """How long the rest will take, in whole seconds, if all goes on as it did."""
        seconds = time.monotonic() - self._began
        rest = max(self.num_shards - self.shards, 0)
        left = seconds / max(self.shards, 1e-9) * rest
        return timedelta(seconds=round(min(left, 1e9)))  # of next to nothing: 31 years


class LineProgress(Progress):
    """Lines that say what is done, how fast, and how long the rest will take."""

    def __init__(
        self,
        tell: Callable[[str], object],
        seconds_between: float = 0,
        seconds_inside: float = 30,
    ) -> None:
        """Tell lines to ``tell``, but for the last and for failures not too often.

        Args:
            tell: Called with each line.
            seconds_between: Least seconds from one line to that of a shard that is done.
            seconds_inside: Least seconds to a line about a shard that is under way.
        """
        self._tell = tell
        self._seconds_between = seconds_between
        self._seconds_inside = seconds_inside

    def start(self, asset: str, num_shards: int) -> None:
        """Begin to count."""
        self._asset, self._tally = asset, Tally(num_shards)
        self._told = time.monotonic()

    def move(self, shard: str, num_samples: int, total: int) -> None:
        """Tell how far a shard is."""
        self._tally.move(shard, num_samples, total)
        if time.monotonic() - self._told >= self._seconds_inside:
            self._line(f"{shard}: {num_samples:,} of {total:,} samples")

    def advance(self, shard: str, num_samples: int) -> None:
        """Count a shard that is done."""
        self._tally.end(shard, num_samples)
        is_last = self._tally.num_ended == self._tally.num_shards
        if is_last or time.monotonic() - self._told >= self._seconds_between:
            self._line(f"{shard} done")

    def fail(self, shard: str, reason: str) -> None:
        """Count a shard that failed."""
        self._tally.end(shard)
        self._line(f"{shard} failed: {reason}")

    def _line(self, what: str) -> None:
        self._told, tally = time.monotonic(), self._tally
        line = (
            f"{self._asset}: {what}; {tally.num_ended} of {tally.num_shards} shards, "
            f"{tally.samples_per_second:,.0f} samples/s, about {tally.left} left"
        )
        self._tell(printable(line))


class ProgressResource(dg.ConfigurableResource[Progress]):
    """Tells the log of the run."""

    def create_resource(self, context: dg.InitResourceContext) -> Progress:
        """Begin to tell."""
        assert context.log is not None
        return LineProgress(context.log.info)
