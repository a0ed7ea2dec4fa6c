"""The sensor that starts runs for imports that are due.

Apart from ``new_shards``, since the runs of one sensor have partitions of one set, and so
there is a job for each import asset. ``new_shards`` leaves the shards of an input alone
while a run imports it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from curation.errors import InputError, StorageError
from curation.recipe import Recipe
from curation_assets.lineage import Lineage
from curation_assets.records_owner import check_records
from curation_assets.run_tags import BY_ITSELF, launch_tags
from jobs.asset_jobs import IMPORT_JOBS
from jobs.attempts import (
    WORK,
    Attempt,
    find_attempts,
    run_key,
    tell_attempts,
    work_of,
)
from jobs.dead_runs import end_dead_runs
from jobs.imports import DueImport, due_imports, imported_by
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
        return tick(context.instance, recipe, context.log.warning)

    return [due]


def tick(
    instance: dg.DagsterInstance, recipe: Recipe, tell: Callable[[str], object] = print
) -> dg.SensorResult:
    """Decide what to import now; arguments as of :func:`jobs.new_shards.tick`."""
    lineage = Lineage(recipe)
    try:
        check_records(instance, recipe.name)
        end_dead_runs(instance)
        due = due_imports(instance, lineage)
    except (StorageError, InputError) as error:
        return dg.SensorResult(skip_reason=f"nothing can be started: {error}")
    under_way = set(map(imported_by, instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))))
    known = [one for one in due if one.version and one.name not in under_way]
    attempts = _attempts(instance, lineage, known)
    requests = [
        _request(instance, lineage, one) for one in known if one.name not in attempts
    ]
    told = [f"{one.name}: {one.cause}" for one in due if one.version is None]
    told += [tell_attempts(attempts)] if attempts else []
    if requests and attempts:
        tell(tell_attempts(attempts))
    message = "; ".join(told) or "everything is imported, or is being imported"
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else message)


def _attempts(
    instance: dg.DagsterInstance, lineage: Lineage, due: Sequence[DueImport]
) -> dict[str, Attempt]:
    """Find the inputs that were imported as they are now, in vain."""
    starts = {one.name: one.asset for one in due}
    wanted: dict[str, dict[str, str]] = {asset: {} for asset in lineage.imports}
    for one in due:
        wanted[one.asset][one.name] = one.version or ""
    return find_attempts(instance, lineage, starts, wanted, list(starts))


def _request(
    instance: dg.DagsterInstance, lineage: Lineage, one: DueImport
) -> dg.RunRequest:
    work = work_of(lineage, {one.name: one.version or ""})
    return dg.RunRequest(
        run_key=run_key(instance, [one.asset], [one.name], work),
        job_name=IMPORT_JOBS[one.asset],
        partition_key=one.name,
        tags={**launch_tags(lineage), **BY_ITSELF, WORK: work},
    )
