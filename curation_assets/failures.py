"""Which errors Dagster tries again, and which end a run: the one place that decides."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from curation.errors import CurationError, StaleError, StorageError

MAX_RETRIES = 3
SECONDS_BEFORE_RETRY = 30

_MAY_PASS = (StorageError, StaleError)
"""Storage comes back; a source that changed under a run can be read again."""


@contextmanager
def run_failures() -> Iterator[None]:
    """End a step as its error deserves: retry what may pass, give up on the rest."""
    try:
        yield
    except _MAY_PASS as error:
        raise dg.RetryRequested(MAX_RETRIES, SECONDS_BEFORE_RETRY) from error
    except CurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def raise_for_shards(failures: Mapping[str, CurationError]) -> None:
    """End a step whose other shards are done; nothing happens if none failed.

    A retry starts the step again, which passes over the shards already recorded.
    """
    if not failures:
        return
    told = "".join(f"\n  {shard}: {error}" for shard, error in failures.items())
    message = f"{len(failures)} shard(s) failed, the others are recorded:{told}"
    if any(isinstance(error, _MAY_PASS) for error in failures.values()):
        raise dg.RetryRequested(MAX_RETRIES, SECONDS_BEFORE_RETRY) from StorageError(
            message
        )
    raise dg.Failure(message, allow_retries=False)
