"""Asking a server again whose failure may pass: one rule for all storages that have one.

What may pass is what a storage raises :class:`~curation.errors.StorageError` for: no
connection, an answer of 429 or 5xx, one that takes too long, is cut short or is wrong. It
is asked again after a wait that doubles, until ``DEADLINE_SECONDS`` after the first try. A
server that has never answered yet is asked a few times only: that is a wrong address more
often than an outage, and whoever wrote it should not wait for a minute to hear of it.

Every try ends: ``try_seconds``. So a call ends at the latest after ``DEADLINE_SECONDS`` and
the seconds of one try, whatever the server does.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from curation.errors import CurationError, StorageError

T = TypeVar("T")

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 60.0
"""After which no further try begins."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 8.0  # seconds, of which each wait is a random half or more
SILENCE_SECONDS = 30.0  # without a byte, after which a try has failed
SLOWEST = 100_000  # bytes a second; a server that sends fewer counts as silent

# of its own, so that nobody's seeded numbers change with the state of a network
_random = random.Random()


@dataclass
class Retries:
    """Calls one server, and remembers whether it ever answered."""

    first_tries: int = 3
    """Of a server that has not answered yet."""
    has_answered: bool = False

    def call(self, ask: Callable[[], T]) -> T:
        """Give what a call returns; repeat it while it fails in a way that may pass.

        Raises:
            StorageError: It still failed at the deadline.
            CurationError: What the call raises that doesn't pass, at once.
        """
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                found = ask()
            except StorageError as error:
                self.has_answered |= error.reached
                wait = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)
                wait *= 0.5 + _random.random() / 2
                passed = time.monotonic() - began
                if self._gives_up(tries, passed + wait):
                    raise StorageError(f"{error}{_said(tries, passed)}") from error
                log.warning("%s; trying again in %.1f s", error, wait)
                time.sleep(wait)
            except CurationError:
                self.has_answered = True
                raise
            else:
                self.has_answered = True
                return found

    def _gives_up(self, tries: int, seconds: float) -> bool:
        too_often = not self.has_answered and tries >= self.first_tries
        return too_often or seconds > DEADLINE_SECONDS


def try_seconds(size: int = 0) -> float:
    """Give how long one try may take that moves so many bytes, there or back."""
    return SILENCE_SECONDS + size / SLOWEST


def _said(tries: int, seconds: float) -> str:
    return f" (asked {tries} times in {seconds:.0f} s)" if tries > 1 else ""
