"""What the next release is to hold, decided once, for those who write its tars.

Needed only where many machines are to write one release: this asset, then all partitions
of ``release_shard``, then ``release``. On one machine ``release`` alone does it all.
"""

import dagster as dg

from curation.release.frozen_plan import write_plan
from curation.release.plan import shard_name
from curation.release.publish import plan_next_release
from curation.storage import Storage
from curation_assets.failures import run_failures
from curation_assets.lineage import Lineage
from curation_assets.ownership import check_owner
from curation_assets.partitions import RELEASE_SHARDS, add_partitions
from curation_assets.release import (
    FindDue,
    ReleaseConfig,
    chosen_options,
    releasable_shards,
    release_code_version,
)


def release_plan_asset(lineage: Lineage, find_due: FindDue) -> dg.AssetsDefinition:
    """Define ``release_plan`` for a recipe."""

    @dg.asset(
        name="release_plan",
        deps=[dg.AssetDep("filtered_shard", partition_mapping=dg.AllPartitionMapping())],
        code_version=release_code_version(lineage),
        group_name="dataset",
        kinds={"parquet"},
        description="Which sample goes into which tar of the next release, under which "
        "key. Makes the tars partitions of `release_shard`. Give `release` the same name "
        "and `anew` as here.",
    )
    def release_plan(
        context: dg.AssetExecutionContext,
        config: ReleaseConfig,
        output: dg.ResourceParam[Storage],
    ) -> dg.MaterializeResult[None]:
        with run_failures():
            shards = releasable_shards(context.instance, find_due, config)
            check_owner(context.instance, output, lineage)
            planned = plan_next_release(
                output,
                lineage.recipe,
                lineage.artifacts.filtered_folder,
                shards,
                chosen_options(context.instance, lineage, output, config, shards),
            )
            if not planned.is_new:
                context.log.info("There is nothing new: the last release has all of it.")
            plan = write_plan(output, lineage.artifacts.release_plan, planned)
        tars = [shard_name(number) for number in plan.tars]
        add_partitions(context.instance, RELEASE_SHARDS, tars)
        before = planned.previous.shards if planned.previous else ()
        shared = {(shard.number, shard.fingerprint) for shard in before}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(plan.fingerprint),
            metadata={
                "name": plan.release,
                "samples": sum(len(shard.samples) for shard in planned.shards),
                "tars": len(tars),
                "tars_shared": len(shared.intersection(plan.tars.items())),
            },
        )

    return release_plan
