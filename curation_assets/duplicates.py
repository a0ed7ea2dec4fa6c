"""The duplicates of one shard: what `duplicate_groups` found, as that shard sees it.

So that a shard is only stale if its own duplicates changed, and not whenever any did.
"""

from collections import Counter

import dagster as dg
import pyarrow as pa

from curation.errors import StaleError
from curation.fingerprint import fingerprint
from curation.storage import Storage
from curation.tables import DUPLICATES, read_table
from curation_assets.lineage import Lineage
from curation_assets.metadata import count_table
from curation_assets.shard_asset import (
    AssetEvents,
    Metadata,
    ShardTask,
    made_from,
    newest_event,
    one_by_one,
    record_shards,
    recorded_versions,
    shard_asset_options,
    shards_to_record,
)
from resources.progress import Progress


def duplicates_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``duplicates`` for a recipe."""
    artifacts = lineage.artifacts

    @dg.asset(
        **shard_asset_options(lineage, "duplicates"),
        group_name="decision",
        kinds={"parquet"},
        description="The shard's samples for which another one stands, and which one, how "
        "similar. Made with `duplicate_groups`, for the shards that it changes.",
    )
    def duplicates(
        context: dg.AssetExecutionContext,
        output: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        def find(task: ShardTask) -> Metadata | None:
            if not task.fingerprint:
                return None
            return described(
                read_table(output, artifacts.duplicates(task.shard), DUPLICATES)
            )

        def make(task: ShardTask) -> Metadata:
            raise StaleError(
                f"{task.shard} has not been compared with the other shards yet; "
                "materialize duplicate_groups first"
            )

        pointer = newest_event(context.instance)
        shards = shards_to_record(context)
        embedded = recorded_versions(context.instance, "embeddings", shards)
        tasks = [
            ShardTask(
                shard,
                made_from(output, artifacts.duplicates(shard)) or "",
                duplicates_inputs(lineage, embedded.get(shard, "")),
                pointer,
                lineage.code_version("duplicates"),
            )
            for shard in shards
        ]
        yield from record_shards(context, progress, tasks, one_by_one(make), find)

    return duplicates


def duplicates_inputs(lineage: Lineage, embedded: str) -> dict[str, str]:
    """Give the data versions that a shard's duplicates are made of.

    Args:
        lineage: For the version of the groups.
        embedded: The data version of the shard's embeddings.
    """
    return {"embeddings": embedded, "duplicate_groups": lineage.groups_version}


def duplicates_version(lineage: Lineage, table: pa.Table) -> str:
    """Give the fingerprint of a shard's duplicates: of the rule and of what it found."""
    return fingerprint("duplicates", lineage.groups_version, table.to_pydict())


def described(table: pa.Table) -> Metadata:
    """Give the numbers of a duplicates table for the UI."""
    kinds = Counter(table["kind"].to_pylist())
    return {"removed": table.num_rows, "kinds": count_table("kind", kinds)}
