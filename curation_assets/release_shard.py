"""One tar of the planned release, so that many machines can write them.

Each run takes some of the tars. What it writes is seen by nobody until ``release``
publishes it; a run that is interrupted is gone on with, and ``release`` itself writes what
nobody did.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import dagster as dg

from curation.errors import CurationError, ReleaseClaimedError
from curation.release.frozen_plan import (
    FrozenPlan,
    open_planned,
    read_plan,
    read_planned_shard,
)
from curation.release.manifest import read_manifest, release_folder
from curation.release.plan import shard_name
from curation.release.publish import bring_shard, wanted_by
from curation.release.shard import ReleaseShard, Target, find_shard
from curation.release.sources import FilteredReader
from curation.storage import Storage
from curation_assets.failures import run_failures
from curation_assets.lineage import Lineage
from curation_assets.partitions import RELEASE_SHARDS
from curation_assets.recipe_guard import recipe_tags
from curation_assets.release import release_code_version
from curation_assets.shard_asset import (
    AssetEvents,
    Made,
    Metadata,
    ShardTask,
    newest_event,
    record_shards,
    recorded_version,
    shards_to_record,
)
from resources.progress import Progress

RELEASE_SHARD = "release_shard"
THREADS = 4
NOT_PLANNED = "not in the plan"
"""The data version of a tar that the release before had, and the next will not."""


def release_shard_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``release_shard`` for a recipe."""

    @dg.asset(
        name=RELEASE_SHARD,
        deps=["release_plan"],
        partitions_def=RELEASE_SHARDS,
        backfill_policy=dg.BackfillPolicy.multi_run(lineage.recipe.machine.shards_per_run),
        code_version=release_code_version(lineage),
        op_tags=recipe_tags(lineage),
        group_name="dataset",
        kinds={"webdataset", "dali", "parquet"},
        description="One tar of the planned release with its index and table. Only where "
        "many machines are to write them: `release` writes those that lack.",
    )
    def release_shard(
        context: dg.AssetExecutionContext,
        output: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        tars = shards_to_record(context)
        with run_failures():
            plan = read_plan(output, lineage.artifacts.release_plan)
            work = _Work(output, lineage, plan)
        version = recorded_version(context.instance, "release_plan") or ""
        pointer = newest_event(context.instance)
        planned = {shard_name(number): made_of for number, made_of in plan.tars.items()}
        tasks = [
            ShardTask(
                tar,
                planned.get(tar, NOT_PLANNED),
                {"release_plan": version},
                pointer,
                release_code_version(lineage),
            )
            for tar in tars
        ]
        yield from record_shards(context, progress, tasks, work.make_all, work.find)

    return release_shard


class _Work:
    """Brings tars of one plan there."""

    def __init__(self, output: Storage, lineage: Lineage, plan: FrozenPlan) -> None:
        self._plan = plan
        self._settings = lineage.recipe.release
        self._target = Target(output, release_folder(plan.release), self._settings)
        metadata = lineage.recipe.texts.metadata_extensions
        reader = FilteredReader(output, lineage.artifacts.filtered_folder, metadata)
        before = plan.previous
        previous = read_manifest(output, release_folder(before)) if before else None
        self._wanted = wanted_by(previous, reader)

    def find(self, task: ShardTask) -> Metadata | None:
        """Describe a tar that is there, or that is not to be."""
        if task.fingerprint == NOT_PLANNED:
            return {"release": self._plan.release, "samples": 0}
        found = find_shard(int(task.shard), task.fingerprint, self._target)
        return self._described(found) if found else None

    def make_all(self, tasks: Sequence[ShardTask]) -> Iterator[Made]:
        """Write tars, some at once."""
        try:
            with open_planned(self._target, self._plan) as target:
                make = partial(self._make, target)
                with ThreadPoolExecutor(THREADS) as threads:
                    yield from zip(tasks, threads.map(make, tasks), strict=True)
        except ReleaseClaimedError as error:  # before the first was begun
            yield from ((task, error) for task in tasks)

    def _make(self, target: Target, task: ShardTask) -> Metadata | CurationError:
        number = int(task.shard)
        try:
            planned = read_planned_shard(target.storage, self._plan, number, self._settings)
            return self._described(bring_shard(target, self._wanted(planned)))
        except CurationError as error:
            return error

    def _described(self, shard: ReleaseShard) -> Metadata:
        tar = shard.files[0]
        return {
            "release": self._plan.release,
            "samples": shard.num_samples,
            "bytes": tar.num_bytes,
            "sha256": tar.sha256,
            "url": f"{self._target.storage.url}/{self._target.path(tar.path)}",
        }
