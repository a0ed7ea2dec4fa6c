"""Which errors Dagster tries again, and which end a run: the one place that decides."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from curation.errors import CurationError, StorageError

MAX_RETRIES = 3
SECONDS_BEFORE_RETRY = 30  # and up to as many more


@contextmanager
def run_failures() -> Iterator[None]:
    """End a step as its error deserves: retry when storage may come back, else give up.

    A source that changed under a run is not waited for: what the run was to make is no
    longer what is wanted, and the next run makes that.
    """
    try:
        yield
    except StorageError as error:
        raise _tried_again() from error
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
    if any(isinstance(error, StorageError) for error in failures.values()):
        raise _tried_again() from StorageError(message)
    raise dg.Failure(message, allow_retries=False)


def _tried_again() -> dg.RetryRequested:
    # what stood in each other's way, or overran a server together, must not meet again
    seconds = random.randint(SECONDS_BEFORE_RETRY, 2 * SECONDS_BEFORE_RETRY)
    return dg.RetryRequested(MAX_RETRIES, seconds)
