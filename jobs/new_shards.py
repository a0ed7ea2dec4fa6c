"""The sensor that starts runs for what is new, was replaced, or is due for any reason.

It holds no state but the versions of tars that it saw for the first time: everything else
follows from the source, the recipe and Dagster's records (``plan.py``), so that a missed
tick, a crash or a change made by hand cannot confuse it.
"""

import json
from collections.abc import Callable, Collection, Mapping

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from curation.errors import InputError, StorageError
from curation.recipe import Recipe
from curation.storage import open_storage
from curation_assets.global_asset import current_inputs, made_of
from curation_assets.lineage import VERSIONS, Lineage
from curation_assets.ownership import check_owner
from curation_assets.partitions import ADDED_AT_ONCE, SHARDS, input_of
from curation_assets.records_owner import check_records
from curation_assets.release import RELEASE
from curation_assets.release_shard import RELEASE_SHARD
from curation_assets.run_tags import BY_ITSELF, launch_tags
from jobs.arrivals import Arrivals, find_arrivals, tell_waiting
from jobs.asset_jobs import ASSET_JOBS
from jobs.attempts import (
    PARTITION,
    RANGE_START,
    WORK,
    Attempt,
    find_attempt,
    find_attempts,
    partitions_of,
    run_key,
    tell_attempts,
    work_of,
)
from jobs.dead_runs import end_dead_runs
from jobs.imports import imported_by
from jobs.next_runs import NextRun, first_due, next_runs
from jobs.output_files import output_files, stray_shards
from jobs.plan import Plan, make_plan

MOST_RUNS = 20  # of one tick; the next one goes on
SECONDS_BETWEEN_TICKS = 60

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
UNFINISHED_BACKFILLS = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
OF_OTHER_PARTITIONS = {dg.AssetKey("cluster_bins"), dg.AssetKey(RELEASE_SHARD)}
"""Assets made per bin or per tar of a release, of what all shards have."""
OF_ALL_SHARDS = {dg.AssetKey(name) for name in ("centroids", "release_plan", RELEASE)}
OWN_ASSETS = OF_OTHER_PARTITIONS | OF_ALL_SHARDS | {dg.AssetKey(name) for name in VERSIONS}
"""All that runs of this project are over; those of others on the instance don't count."""


def new_shards_sensor(recipe: Recipe) -> dg.SensorDefinition:
    """Define the sensor ``new_shards`` for a recipe. It is off until it is turned on."""

    @dg.sensor(
        name="new_shards",
        # of one partition set, which bins and a release's tars are not in
        target=dg.AssetSelection.assets(*Lineage(recipe).assets),
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        description="Lists the source and starts runs for tars that are new or were "
        "replaced, once they are complete, then for all that follows from them.",
    )
    def new_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return tick(context.instance, recipe, context.cursor, context.log.warning)

    return new_shards


def tick(
    instance: dg.DagsterInstance,
    recipe: Recipe,
    cursor: str | None,
    tell: Callable[[str], object] = print,
) -> dg.SensorResult:
    """Decide what to start now.

    Args:
        instance: Holds the records.
        recipe: What to curate.
        cursor: What the last tick returned as its cursor.
        tell: Is told what is put off where runs are started: Dagster has no room for it in
            the message of such a tick, but in its log.
    """
    lineage = Lineage(recipe)
    try:
        check_records(instance, recipe.name)
        arrivals = find_arrivals(instance, recipe, seen=json.loads(cursor or "{}"))
        output = open_storage(recipe.output, recipe.s3)
        check_owner(instance, output, lineage)
        files = output_files(lineage)
    except (StorageError, InputError) as error:
        return dg.SensorResult(skip_reason=f"nothing can be started: {error}")
    known = dict.fromkeys(instance.get_dynamic_partitions(SHARDS.name or ""))
    new = [shard for shard in arrivals.versions if shard not in known][:ADDED_AT_ONCE]
    cursor = json.dumps(arrivals.unrecorded, sort_keys=True)
    end_dead_runs(instance)
    busy = _busy(instance, [*known, *new])
    if busy is None:
        return dg.SensorResult(
            skip_reason="a run over all shards is under way", cursor=cursor
        )
    gone = {shard for shard in known if shard not in arrivals.tars}
    if gone and instance.get_backfills(UNFINISHED_BACKFILLS, limit=1):
        busy |= gone  # a backfill fails as a whole if one of its partitions is deleted
    gone -= busy  # and a run does if an end of its range is
    order = [shard for shard in (*known, *new) if shard not in gone]
    strays = stray_shards(lineage, files, arrivals)
    plan = make_plan(instance, lineage, arrivals.versions, files, strays)
    requests, attempts = _choose(
        instance, lineage, plan, order, busy=busy, waiting=arrivals.waiting
    )
    told = _told(recipe, arrivals, busy, attempts)
    if requests and attempts:
        tell(tell_attempts(attempts))
    changes = [SHARDS.build_add_request(new)] if new else []
    deletions = [SHARDS.build_delete_request(sorted(gone))] if gone else []
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else told,
        dynamic_partitions_requests=[*changes, *deletions],
        cursor=cursor,
    )


def _choose(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    plan: Plan,
    order: list[str],
    *,
    busy: Collection[str],
    waiting: Collection[str],
) -> tuple[list[dg.RunRequest], dict[str, Attempt]]:
    """Choose the runs to ask for; and tell what is put off, since it was tried in vain."""
    attempts = find_attempts(instance, lineage, first_due(plan), plan.wanted, order)
    final = {shard: attempt for shard, attempt in attempts.items() if attempt.is_final}
    runs = next_runs(
        plan,
        order,
        shards_per_run=lineage.recipe.machine.shards_per_run,
        busy=busy,
        put_off={*waiting, *final},
        at_once={s: a.num_partitions // 2 for s, a in attempts.items() if s not in final},
    )[:MOST_RUNS]
    requests = []
    for run in runs:
        versions = _versions(instance, lineage, plan, run)
        if not run.shards:
            (asset,) = run.assets
            if attempt := find_attempt(instance, lineage, asset, versions[asset]):
                final[asset] = attempt
                continue
        requests.append(_request(instance, lineage, run, work_of(lineage, versions)))
    return requests, final


def _busy(instance: dg.DagsterInstance, order: list[str]) -> set[str] | None:
    """Name the shards of unfinished runs; None if one of those is over all shards.

    Those of an import are the shards that it may be writing.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    busy: set[str] = set()
    for run in runs:
        selection = set(run.asset_selection or ())
        if not selection & OWN_ASSETS and run.job_name not in ASSET_JOBS:
            continue  # no run over assets, or over those of another project
        if name := imported_by(run):
            busy.update(shard for shard in order if input_of(shard) == name)
            continue
        if OF_OTHER_PARTITIONS & selection:
            return None  # its partitions are no shards, and it reads all of them
        if not {RANGE_START, PARTITION} & run.tags.keys():
            return None
        busy.update(partitions_of(run, order))
    return busy


def _versions(
    instance: dg.DagsterInstance, lineage: Lineage, plan: Plan, run: NextRun
) -> dict[str, str]:
    """Say what a run is to be made of, as :func:`jobs.attempts.work_of` takes it."""
    if run.shards:
        wanted = plan.wanted[run.assets[0]]
        return {shard: wanted.get(shard, "") for shard in run.shards}
    (asset,) = run.assets
    return {asset: made_of(lineage, asset, current_inputs(instance, lineage, asset))}


def _request(
    instance: dg.DagsterInstance, lineage: Lineage, run: NextRun, work: str
) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run_key(instance, run.assets, run.shards, work),
        asset_selection=[dg.AssetKey(asset) for asset in run.assets],
        tags={**run.tags, **launch_tags(lineage), **BY_ITSELF, WORK: work},
    )


def _told(
    recipe: Recipe,
    arrivals: Arrivals,
    busy: Collection[str],
    attempts: Mapping[str, Attempt],
) -> str:
    causes = [tell_waiting(recipe, arrivals.waiting)] if arrivals.waiting else []
    if busy:
        causes.append(f"{len(busy)} shard(s) are being worked on")
    if attempts:
        causes.append(tell_attempts(attempts))
    return "; ".join(causes) or "everything is up to date"
