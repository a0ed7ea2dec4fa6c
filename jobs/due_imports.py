"""The sensor that starts runs for imports that are due.

Apart from ``new_shards``, since the runs of one sensor have partitions of one set, and so
there is a job for each import asset. ``new_shards`` leaves the shards of an input alone
while a run imports it.
"""

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

import dagster as dg

from curation.errors import StorageError
from curation.fingerprint import fingerprint
from curation.recipe import Recipe
from curation_assets.lineage import Lineage
from curation_assets.run_tags import BY_ITSELF, launch_tags
from jobs.asset_jobs import IMPORT_JOBS
from jobs.imports import due_imports, imported_by
from jobs.new_shards import SECONDS_BETWEEN_TICKS, UNFINISHED

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )


def due_imports_sensors(
    recipe: Recipe, jobs: "Sequence[UnresolvedAssetJobDefinition]"
) -> list[dg.SensorDefinition]:
    """Define the sensor ``due_imports``, off at first; none for a recipe without imports.

    Args:
        recipe: What to import.
        jobs: All named jobs of the recipe.
    """
    if not Lineage(recipe).imports:
        return []

    @dg.sensor(
        name="due_imports",
        jobs=[job for job in jobs if job.name in IMPORT_JOBS.values()],
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        description="Looks at the lists and folders that the recipe imports from, and "
        "starts a run for each that is new or changed.",
    )
    def due(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return tick(context.instance, recipe)

    return [due]


def tick(instance: dg.DagsterInstance, recipe: Recipe) -> dg.SensorResult:
    """Decide what to import now. What failed is not asked for again by itself."""
    lineage = Lineage(recipe)
    try:
        due = due_imports(instance, lineage)
    except StorageError as error:
        return dg.SensorResult(skip_reason=f"the inputs can't be looked at: {error}")
    under_way = set(map(imported_by, instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))))
    requests = [
        dg.RunRequest(
            run_key=fingerprint(*astuple(one)),
            job_name=IMPORT_JOBS[one.asset],
            partition_key=one.name,
            tags={**launch_tags(lineage), **BY_ITSELF},
        )
        for one in due
        if one.version and one.name not in under_way
    ]
    waiting = [f"{one.name}: {one.cause}" for one in due if one.version is None]
    told = "; ".join(waiting) or "everything is imported, or is being imported"
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else told)
