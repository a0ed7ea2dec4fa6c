"""The sensor that starts runs for what is new, was replaced, or is due for any reason.

It holds no state but the versions of tars that it saw for the first time: everything else
follows from the source, the recipe and Dagster's records (``plan.py``), so that a missed
tick, a crash or a change made by hand cannot confuse it.
"""

import json
from collections.abc import Collection, Mapping

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from curation.errors import InputError, StorageError
from curation.fingerprint import fingerprint
from curation.recipe import Recipe
from curation_assets.global_asset import current_inputs, made_of
from curation_assets.lineage import Lineage
from curation_assets.partitions import ADDED_AT_ONCE, SHARDS, input_of
from curation_assets.release_shard import RELEASE_SHARD
from curation_assets.run_tags import BY_ITSELF, launch_tags
from curation_assets.shard_asset import recorded_versions
from jobs.arrivals import Arrivals, find_arrivals, tell_waiting
from jobs.asset_jobs import ASSET_JOBS
from jobs.dead_runs import end_dead_runs
from jobs.imports import imported_by
from jobs.next_runs import RANGE_END, RANGE_START, NextRun, next_runs
from jobs.plan import make_plan, output_files

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
        return tick(context.instance, recipe, context.cursor)

    return new_shards


def tick(
    instance: dg.DagsterInstance, recipe: Recipe, cursor: str | None
) -> dg.SensorResult:
    """Decide what to start now.

    Args:
        instance: Holds the records.
        recipe: What to curate.
        cursor: What the last tick returned as its cursor.
    """
    lineage = Lineage(recipe)
    try:
        arrivals = find_arrivals(instance, recipe, seen=json.loads(cursor or "{}"))
        files = output_files(recipe)
    except (StorageError, InputError) as error:
        return dg.SensorResult(skip_reason=f"nothing could be listed: {error}")
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
    runs = next_runs(
        make_plan(instance, lineage, arrivals.versions, files),
        [shard for shard in (*known, *new) if shard not in gone],
        shards_per_run=recipe.machine.shards_per_run,
        busy=busy,
        put_off=arrivals.waiting,
    )[:MOST_RUNS]
    changes = [SHARDS.build_add_request(new)] if new else []
    deletions = [SHARDS.build_delete_request(sorted(gone))] if gone else []
    return dg.SensorResult(
        run_requests=[_request(instance, lineage, run, arrivals.versions) for run in runs],
        skip_reason=None if runs else _why_nothing(recipe, arrivals, busy),
        dynamic_partitions_requests=[*changes, *deletions],
        cursor=cursor,
    )


def _busy(instance: dg.DagsterInstance, order: list[str]) -> set[str] | None:
    """Name the shards of unfinished runs; None if one of those is over all shards.

    Those of an import are the shards that it may be writing.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    busy: set[str] = set()
    for run in runs:
        if not run.asset_selection and run.job_name not in ASSET_JOBS:
            continue  # no run over assets
        if name := imported_by(run):
            busy.update(shard for shard in order if input_of(shard) == name)
            continue
        if OF_OTHER_PARTITIONS & set(run.asset_selection or ()):
            return None  # its partitions are no shards, and it reads all of them
        first = run.tags.get(RANGE_START) or run.tags.get("dagster/partition")
        last = run.tags.get(RANGE_END) or first
        if first is None:
            return None
        if first in order and last in order:
            busy.update(order[order.index(first) : order.index(last) + 1])
    return busy


def _request(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    run: NextRun,
    raw_versions: Mapping[str, str],
) -> dg.RunRequest:
    """Ask for a run under a key that names its work: what failed is not tried for ever."""
    versions = {shard: raw_versions[shard] for shard in run.shards}
    if not run.shards:
        (asset,) = run.assets
        inputs = current_inputs(instance, lineage, asset)
        versions = {asset: made_of(lineage, asset, inputs)}
    codes = [lineage.code_version(asset) for asset in lineage.assets]
    return dg.RunRequest(
        run_key=fingerprint(list(run.assets), versions, codes, _done(instance, run)),
        asset_selection=[dg.AssetKey(asset) for asset in run.assets],
        tags={**run.tags, **launch_tags(lineage), **BY_ITSELF},
    )


def _done(instance: dg.DagsterInstance, run: NextRun) -> dict[str, str]:
    """Look up what the run's first asset has on record for its shards."""
    return recorded_versions(instance, run.assets[0], run.shards) if run.shards else {}


def _why_nothing(recipe: Recipe, arrivals: Arrivals, busy: Collection[str]) -> str:
    causes = [tell_waiting(recipe, arrivals.waiting)] if arrivals.waiting else []
    if busy:
        causes.append(f"{len(busy)} shard(s) are being worked on")
    return "; ".join(causes) or "everything is up to date, or failed as it stands"
