"""The similar pairs of each bin: the comparisons, in parts that many machines can share.

A partition is a group of neighbouring cells, of about 250,000 vectors. Bins are independent
of each other: a backfill over all of them runs on as many machines as there are.
``duplicate_groups`` compares what no such run did, and records it here.
"""

from typing import TYPE_CHECKING

import dagster as dg

from curation.errors import CurationError, NotFoundError, StaleError
from curation.fingerprint import fingerprint
from curation.storage import Storage
from curation_assets.centroids import bin_key, compared_folder, comparing_version
from curation_assets.lineage import Lineage
from curation_assets.partitions import CLUSTER_BINS
from curation_assets.recipe_guard import recipe_tags
from curation_assets.shard_asset import (
    AssetEvents,
    MakeAll,
    Metadata,
    ShardTask,
    newest_event,
    one_by_one,
    partition_event,
    record_shards,
    recorded_versions,
    shards_to_record,
)
from resources.progress import Progress

if TYPE_CHECKING:
    from curation.dedup.state import State


def cluster_bins_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``cluster_bins`` for a recipe that compares embeddings."""

    @dg.asset(
        name="cluster_bins",
        deps=["centroids"],
        partitions_def=CLUSTER_BINS,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        code_version=comparing_version(lineage),
        op_tags=recipe_tags(lineage),
        group_name="decision",
        kinds={"pytorch", "parquet"},
        description="The similar pairs among the embeddings of some neighbouring cells. "
        "Bins can be compared on any number of machines side by side.",
    )
    def cluster_bins(
        context: dg.AssetExecutionContext,
        output: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        bins = shards_to_record(context)
        state = _opened(output, lineage)
        pending = _pending(state)
        pointer = newest_event(context.instance)
        tasks = [_task(lineage, state, key, pointer) for key in bins]

        def find(task: ShardTask) -> Metadata | None:
            return None if task.shard in pending else {}

        yield from record_shards(context, progress, tasks, _comparing(state), find)

    return cluster_bins


def compare_pending(
    context: dg.AssetExecutionContext, lineage: Lineage, state: "State"
) -> None:
    """Compare the bins that no run of their own compared, and record them.

    Raises:
        CurationError: A bin can't be compared; those before it are recorded.
    """
    pending = _pending(state)
    recorded = recorded_versions(context.instance, "cluster_bins")
    pointer = newest_event(context.instance)
    every = (bin_key(bin_) for bin_ in range(state.centroids.num_bins))
    tasks = [_task(lineage, state, key, pointer) for key in every]
    new = [t for t in tasks if recorded.get(t.shard) != t.fingerprint or t.shard in pending]
    for task, made in _comparing(state)(new):
        if isinstance(made, CurationError):
            raise made
        context.log_event(partition_event("cluster_bins", task, made))


def _comparing(state: "State") -> MakeAll:
    # torch comes with it, which only those need who compare vectors
    from curation.dedup.bins import compare_bin

    return one_by_one(lambda task: {"new_vectors": compare_bin(state, int(task.shard))})


def _pending(state: "State") -> set[str]:
    from curation.dedup.bins import pending_bins

    return {bin_key(bin_) for bin_ in pending_bins(state)}


def _opened(output: Storage, lineage: Lineage) -> "State":
    from curation.dedup.state import open_state

    try:
        return open_state(output, compared_folder(lineage))
    except NotFoundError as error:
        raise StaleError(f"{error}; materialize centroids first") from error


def _task(lineage: Lineage, state: "State", key: str, pointer: int) -> ShardTask:
    """Say what a bin is made of: of what rule, not of which shards, which come and go."""
    return ShardTask(
        key,
        fingerprint("cluster_bins", state.fingerprint, key),
        {"centroids": state.fingerprint},
        pointer,
        comparing_version(lineage),
    )
