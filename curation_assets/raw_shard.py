"""The tars at the source, as Dagster sees them: there or not, and in which version.

A real asset although nothing is made: staleness reads only observations of external
assets, and automation only their materializations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import dagster as dg

from curation.errors import CurationError
from curation.storage import Storage
from curation_assets.lineage import Lineage, raw_version
from curation_assets.partitions import input_of, tar_path
from curation_assets.shard_asset import (
    AssetEvents,
    Made,
    Metadata,
    ShardTask,
    newest_event,
    record_shards,
    recorded_versions,
    shard_asset_options,
    shards_to_record,
)
from resources.progress import Progress


def raw_shard_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``raw_shard`` for a recipe."""

    @dg.asset(
        **shard_asset_options(lineage, "raw_shard"),
        group_name="images",
        kinds={"webdataset"},
        description="A tar of images, captions and metadata at the source. Its data "
        "version is its size and its ETag or time of change.",
    )
    def raw_shard(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        def look(tasks: Sequence[ShardTask]) -> Iterator[Made]:
            for task in tasks:
                yield _seen(source, task)

        yield from record_shards(context, progress, _tasks(context, lineage), look, _never)

    return raw_shard


def _tasks(context: dg.AssetExecutionContext, lineage: Lineage) -> list[ShardTask]:
    """Say which shards to look at, and which import each is of, if of any."""
    shards = shards_to_record(context)
    pointer = newest_event(context.instance)
    imported = {
        asset: recorded_versions(context.instance, asset)
        for asset in lineage.inputs("raw_shard")
    }
    return [
        ShardTask(
            shard,
            "",  # known when the tar was seen
            {a: found[name] for a, found in imported.items() if name in found},
            pointer,
            lineage.code_version("raw_shard"),
        )
        for shard in shards
        for name in [input_of(shard)]
    ]


def _seen(source: Storage, task: ShardTask) -> Made:
    try:
        tar = source.stat(tar_path(task.shard))
    except CurationError as error:
        return task, error
    metadata = {
        "bytes": tar.size,
        "url": f"{source.url}/{tar.path}",
        "version": tar.version,
    }
    return replace(task, fingerprint=raw_version(tar)), metadata


def _never(_task: ShardTask) -> Metadata | None:
    return None  # looking is all there is to make
