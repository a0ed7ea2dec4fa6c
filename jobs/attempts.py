"""What was tried and did not come about: it is put off and told, and holds up nothing else.

Dagster records, when a run is created, which assets it is to make for which partitions. So
whatever has such a plan on record and nothing made after it was tried by that run. Work
that failed alone, or was cancelled, is left alone until the recipe or what it is made of
changes, or a day has gone by. Of a run that failed with several shards, any one may be the
cause: they are tried again, half as many at a time, so that the others get through.

Run keys hold what was tried before. Dagster passes over a key that it has seen, whatever
became of its run; so nothing but asking twice for the same run may have the same key.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.event_log.base import PlannedMaterializationInfo

from curation.fingerprint import fingerprint
from curation_assets.lineage import Lineage
from jobs.asset_jobs import ASSET_JOBS

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"

WORK = "curation/work"
"""Tag of a run: hash of the recipe and of what the run's partitions were to be made of."""
SECONDS_UNTIL_ASKED_AGAIN = 24 * 3600.0
MOST_NAMED = 5  # partitions, for each reason

CANCELLED = dg.DagsterRunStatus.CANCELED


@dataclass(frozen=True)
class Attempt:
    """The last run that was to make something and did not."""

    run: dg.DagsterRun
    num_partitions: int
    """Of the run."""

    @property
    def is_final(self) -> bool:
        """Whether it tells all there is to know, or may have failed for its company."""
        return self.num_partitions == 1 or self.run.status == CANCELLED

    @property
    def outcome(self) -> str:
        """What became of the run."""
        return "was cancelled" if self.run.status == CANCELLED else "failed"


def partitions_of(run: dg.DagsterRun, order: Sequence[str]) -> list[str]:
    """Name the partitions of a run, of those in ``order``; none for a run without."""
    first = run.tags.get(RANGE_START) or run.tags.get(PARTITION)
    last = run.tags.get(RANGE_END) or first
    if first not in order or last not in order:
        return []
    return list(order[order.index(first) : order.index(last) + 1])


def work_of(lineage: Lineage, versions: Mapping[str, str]) -> str:
    """Hash what a run is to be made by and of.

    Args:
        lineage: For the whole recipe: another batch size may be what mends a failure.
        versions: By partition, the data version that the run's first asset should have; of
            an asset over all shards, what it is to be made of.
    """
    codes = [lineage.code_version(asset) for asset in (*lineage.imports, *lineage.assets)]
    return fingerprint(lineage.recipe.model_dump(mode="json"), codes, dict(versions))


def find_attempts(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    starts: Mapping[str, str],
    wanted: Mapping[str, Mapping[str, str]],
    order: Sequence[str],
) -> dict[str, Attempt]:
    """Find the partitions that were tried as they are now, in the last day, in vain.

    Args:
        instance: Holds the records.
        lineage: Says what would be made now.
        starts: By partition, the first asset that is due. A run that failed there, but
            began earlier, made progress and does not count.
        wanted: By asset and partition, the data version that it should have.
        order: All partitions in Dagster's order.
    """
    tried: dict[str, str] = {}
    for asset in set(starts.values()):
        runs = _tried_in_vain(instance, asset)
        tried |= {p: runs[p] for p, a in starts.items() if a == asset and p in runs}
    ended = dict(_ended(instance, set(tried.values())))
    attempts = {}
    for partition, run_id in tried.items():
        run = ended.get(run_id)
        first = run and _first_asset(lineage, run)
        if run is None or (run.status != CANCELLED and first != starts[partition]):
            continue
        company = partitions_of(run, order)
        versions = wanted.get(first or "", {})
        if _is_still(lineage, run, {p: versions.get(p, "") for p in company}):
            attempts[partition] = Attempt(run, len(company))
    return attempts


def find_attempt(
    instance: dg.DagsterInstance, lineage: Lineage, asset: str, made_of: str
) -> Attempt | None:
    """Find the run that tried in vain to make an asset over all shards as it would be now.

    Args:
        instance: Holds the records.
        lineage: Says what would be made now.
        asset: Its name.
        made_of: What it is to be made of.
    """
    planned = _last_planned(instance, asset)
    made = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    if planned is None or (made and made[0].storage_id > planned.storage_id):
        return None
    for _, run in _ended(instance, {planned.run_id}):
        if _is_still(lineage, run, {asset: made_of}):
            return Attempt(run, 1)
    return None


def run_key(
    instance: dg.DagsterInstance,
    assets: Sequence[str],
    partitions: Collection[str],
    work: str,
) -> str:
    """Name a run by its work and by what was tried before.

    Args:
        instance: Holds the records.
        assets: What the run makes, in order.
        partitions: Those of the run; none for an asset over all shards.
        work: As :func:`work_of` gives it.
    """
    if partitions:
        before = dict(
            instance.event_log_storage.get_latest_storage_id_by_partition(
                dg.AssetKey(assets[0]),
                dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
                set(partitions),
            )
        )
    else:
        planned = _last_planned(instance, assets[0])
        before = {assets[0]: planned.storage_id} if planned else {}
    return fingerprint(list(assets), list(partitions), work, before)


def tell_attempts(attempts: Mapping[str, Attempt]) -> str:
    """Say what is put off, by what became of it; empty if nothing is."""
    told = []
    for outcome in ("was cancelled", "failed"):
        found = [(p, a.run) for p, a in attempts.items() if a.outcome == outcome]
        named = [f"{name} (run {run.run_id[:8]})" for name, run in found[:MOST_NAMED]]
        if more := len(found) - len(named):
            named.append(f"{more} more")
        if found:
            told.append(f"put off, since the last run {outcome}: {', '.join(named)}")
    if told:
        told.append(
            "what is put off is asked for again when it, or the recipe, changes, or a day "
            "later; `curate run`, or a run that you launch, makes it now"
        )
    return "; ".join(told)


def _tried_in_vain(instance: dg.DagsterInstance, asset: str) -> dict[str, str]:
    """Give, by partition, the last run that planned to make an asset and has not."""
    storage = instance.event_log_storage
    attempts = (
        storage.get_latest_asset_partition_materialization_attempts_without_materializations
    )
    return {p: run_id for p, (run_id, _) in attempts(dg.AssetKey(asset)).items()}


def _last_planned(
    instance: dg.DagsterInstance, asset: str
) -> PlannedMaterializationInfo | None:
    return instance.event_log_storage.get_latest_planned_materialization_info(
        dg.AssetKey(asset)
    )


def _ended(
    instance: dg.DagsterInstance, run_ids: Collection[str]
) -> Iterator[tuple[str, dg.DagsterRun]]:
    """Look up those of some runs that ended in the last day."""
    ids, since = sorted(run_ids), time.time() - SECONDS_UNTIL_ASKED_AGAIN
    for first in range(0, len(ids), _RUNS_AT_ONCE):
        part = ids[first : first + _RUNS_AT_ONCE]
        for record in instance.get_run_records(dg.RunsFilter(run_ids=part)):
            run = record.dagster_run
            if run.is_finished and (record.end_time or time.time()) > since:
                yield run.run_id, run


_RUNS_AT_ONCE = 500  # that one statement asks for


def _first_asset(lineage: Lineage, run: dg.DagsterRun) -> str | None:
    known = (*lineage.imports, *lineage.assets)
    chosen = {key.to_user_string() for key in run.asset_selection or ()}
    if not chosen and run.job_name in ASSET_JOBS:
        chosen = set(ASSET_JOBS[run.job_name].assets(known))
    return next((asset for asset in known if asset in chosen), None)


def _is_still(lineage: Lineage, run: dg.DagsterRun, versions: Mapping[str, str]) -> bool:
    """Tell whether a run was to do what would be done now, as far as it said so.

    One that someone else launched did not; if it was cancelled, that counts nevertheless.
    """
    said = run.tags.get(WORK)
    if said is None:
        return run.status == CANCELLED
    return said == work_of(lineage, versions)
