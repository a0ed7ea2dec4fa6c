"""The Dagster instance of a recipe: where its records are, and its partitions.

``DAGSTER_HOME`` decides if it is set. Otherwise it is ``.dagster/<recipe name>`` in the
checkout, so that recipes don't mix their partitions, with the checkout's ``dagster.yaml``.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import dagster as dg

from curation.devices import visible_gpus
from curation.errors import InputError
from curation.recipe import Recipe
from curation_assets.embeddings import GPU_POOL
from curation_assets.partitions import SHARDS, set_partitions

ROOT = Path(__file__).parents[1]
"""The checkout."""


def dagster_home(recipe: Recipe) -> Path:
    """Give the instance's folder, made ready for use.

    Raises:
        InputError: ``DAGSTER_HOME`` is set, and is no folder.
    """
    if home := os.environ.get("DAGSTER_HOME"):
        if not Path(home).is_dir():
            raise InputError(
                f"DAGSTER_HOME is {home}, and there is no such folder; make it, or unset "
                "the variable for a folder in the checkout"
            )
        return Path(home)
    home_folder = ROOT / ".dagster" / recipe.name
    home_folder.mkdir(parents=True, exist_ok=True)
    settings = home_folder / "dagster.yaml"
    with suppress(FileExistsError):
        settings.symlink_to(ROOT / "dagster.yaml")
    return home_folder


def open_instance(recipe: Recipe) -> dg.DagsterInstance:
    """Open the recipe's instance; the caller leaves it with ``with``."""
    return dg.DagsterInstance.from_config(str(dagster_home(recipe)))


def limit_gpu_runs(instance: dg.DagsterInstance) -> None:
    """Let as many runs embed at once as there are GPUs, and one where there is none.

    Without an explicit limit Dagster lets the first runs of a pool overlap.
    """
    slots = max(len(visible_gpus()), 1)
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, slots)


def set_shards(instance: dg.DagsterInstance, shards: Iterable[str]) -> None:
    """Make the instance's shards those given."""
    set_partitions(instance, SHARDS, shards)
