"""The Dagster instance of a recipe: where its records are, and its partitions.

``DAGSTER_HOME`` decides if it is set. Otherwise it is ``.dagster/<recipe name>`` in the
checkout, so that recipes don't mix their partitions. Where there is no ``dagster.yaml``,
the checkout's is linked to.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterInvalidConfigError
from sqlalchemy.exc import DBAPIError
from yaml import YAMLError

from curation.devices import visible_gpus
from curation.errors import CurationError, InputError, StorageError
from curation.recipe import Recipe
from curation_assets.embeddings import GPU_POOL
from curation_assets.partitions import SHARDS, set_partitions

ROOT = Path(__file__).parents[1]
"""The checkout."""


def dagster_home(recipe: Recipe) -> Path:
    """Give the instance's folder, made ready for use.

    Without settings of its own it gets the checkout's: Dagster's defaults would send
    telemetry and let runs overlap on a GPU.

    Raises:
        InputError: ``DAGSTER_HOME`` is set, and is no folder; or nothing can be written.
        StorageError: The disk is full, or fails.
    """
    own = os.environ.get("DAGSTER_HOME")
    if own and not Path(own).is_dir():
        raise InputError(
            f"DAGSTER_HOME is {own}, and there is no such folder; make it, or unset "
            "the variable for a folder in the checkout"
        )
    home = Path(own) if own else ROOT / ".dagster" / recipe.name
    settings = home / "dagster.yaml"
    with _translated(home), suppress(FileExistsError):
        home.mkdir(parents=True, exist_ok=True)
        settings.symlink_to(ROOT / "dagster.yaml")
    return home


def has_records(recipe: Recipe) -> bool:
    """Tell whether the instance's folder is there; nothing is made."""
    return Path(os.environ.get("DAGSTER_HOME") or ROOT / ".dagster" / recipe.name).is_dir()


@contextmanager
def open_instance(recipe: Recipe) -> Iterator[dg.DagsterInstance]:
    """Open the recipe's instance for a ``with`` block.

    Raises:
        InputError: As :func:`dagster_home`, or records can't be written, now or in the
            block.
        StorageError: Records can't be read or written for a reason that may pass.
    """
    home = dagster_home(recipe)
    with _translated(home), dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@contextmanager
def _translated(home: Path) -> Iterator[None]:
    """Tell errors of the records' files, or of their database, in our own words."""
    try:
        yield
    except CurationError:
        raise
    except (DagsterInvalidConfigError, YAMLError) as error:
        raise InputError(f"{home / 'dagster.yaml'} is wrong: {error}") from error
    except DBAPIError as error:
        raise _records_error(home, str(error.orig)) from error
    except OSError as error:
        if not any(str(home) in str(n) for n in (error.filename, error.filename2)):
            raise  # of something else
        raise _records_error(home, os.strerror(error.errno or errno.EIO)) from error


_NOT_WRITABLE = ("readonly", "read-only", "unable to open", "not permitted", "denied")


def _records_error(home: Path, reason: str) -> CurationError:
    told = f"Dagster's records (DAGSTER_HOME is {home}): {reason.strip()}; "
    if any(words in reason.lower() for words in _NOT_WRITABLE):
        return InputError(
            told + "make the folder and all in it writable for this user, or set "
            "DAGSTER_HOME to another one"
        )
    return StorageError(
        told + "what was recorded before is kept. Make room on its disk, or see that its "
        "database answers, then run this again"
    )


def limit_gpu_runs(instance: dg.DagsterInstance) -> None:
    """Let as many runs embed at once as there are GPUs, and one where there is none.

    Without an explicit limit Dagster lets the first runs of a pool overlap.
    """
    slots = max(len(visible_gpus()), 1)
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, slots)


def set_shards(instance: dg.DagsterInstance, shards: Iterable[str]) -> None:
    """Make the instance's shards those given."""
    set_partitions(instance, SHARDS, shards)
