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
    def advance(self, shard: str, num_samples: int) -> None:
        """Say that a shard is done."""

    @abstractmethod
    def fail(self, shard: str, reason: str) -> None:
        """Say that a shard could not be made."""


class LineProgress(Progress):
    """Lines that say what is done, how fast, and how long the rest will take."""

    def __init__(self, tell: Callable[[str], object], seconds_between: float = 0) -> None:
        """Tell lines to ``tell``, but for the last and for failures not too often."""
        self._tell = tell
        self._seconds_between = seconds_between

    def start(self, asset: str, num_shards: int) -> None:
        """Begin to count."""
        self._asset, self._num_shards = asset, num_shards
        self._num_done = self._num_samples = 0
        self._began = self._told = time.monotonic()

    def advance(self, shard: str, num_samples: int) -> None:
        """Count a shard that is done."""
        self._num_done += 1
        self._num_samples += num_samples
        now = time.monotonic()
        is_last = self._num_done == self._num_shards
        if is_last or now - self._told >= self._seconds_between:
            self._told = now
            self._tell(self._line(now - self._began, f"{shard} done"))

    def fail(self, shard: str, reason: str) -> None:
        """Count a shard that failed."""
        self._num_done += 1
        self._tell(self._line(time.monotonic() - self._began, f"{shard} failed: {reason}"))

    def _line(self, seconds: float, what: str) -> str:
        left = seconds / self._num_done * (self._num_shards - self._num_done)
        rate = self._num_samples / max(seconds, 1e-9)
        return printable(
            f"{self._asset}: {what}; {self._num_done} of {self._num_shards} shards, "
            f"{rate:,.0f} samples/s, about {timedelta(seconds=round(left))} left"
        )


class ProgressResource(dg.ConfigurableResource[Progress]):
    """Tells the log of the run."""

    def create_resource(self, context: dg.InitResourceContext) -> Progress:
        """Begin to tell."""
        assert context.log is not None
        return LineProgress(context.log.info)
