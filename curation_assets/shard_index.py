"""Where every member of a raw shard lies: DALI's .idx, and the catalog for byte copies.

The catalog needs every header of the tar, so an ``.idx`` that lies beside it saves
nothing. It is compared with the index that follows from the headers, and the asset says
whether it agrees: who trains on the raw shards with DALI reads wrong bytes by a wrong one.
"""

from collections import Counter

import dagster as dg

from curation.dali_index import find_difference, format_index
from curation.errors import NotFoundError, TableError
from curation.index import (
    ShardIndex,
    build_index,
    index_without_samples,
    read_catalog,
    write_catalog,
)
from curation.storage import LocalCopies, Storage
from curation.tar import read_members
from curation_assets.lineage import Lineage
from curation_assets.metadata import count_table
from curation_assets.partitions import idx_path, tar_path
from curation_assets.shard_asset import (
    AssetEvents,
    Metadata,
    ShardTask,
    is_current,
    one_by_one,
    record_shards,
    shard_asset_options,
    shard_tasks,
)
from resources.progress import Progress

NONE_BESIDE = "there is none"
AGREES = "it agrees"


def shard_index_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``shard_index`` for a recipe."""
    artifacts = lineage.artifacts

    @dg.asset(
        **shard_asset_options(lineage, "shard_index"),
        group_name="images",
        kinds={"dali", "parquet"},
        description="Every sample by byte range: DALI's `.idx`, and a catalog of all tar "
        "members from which samples are later copied byte for byte. What belongs to no "
        "sample is listed with its reason. A damaged tar is an index of no samples.",
    )
    def shard_index(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
        local_copies: dg.ResourceParam[LocalCopies],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        embedded_next = _makes(context, "embeddings")

        def make(task: ShardTask) -> Metadata:
            tars = source
            if embedded_next:  # else headers are read where they are, and no more
                tars = local_copies.fetch(source, tar_path(task.shard))
            index = _indexed(tars, task.shard, lineage.recipe.on_damage)
            output.write(artifacts.index(task.shard), format_index(index))
            path = artifacts.catalog(task.shard)
            write_catalog(output, path, index, fingerprint=task.fingerprint)
            return described(task.shard, index)

        def find(task: ShardTask) -> Metadata | None:
            path = artifacts.catalog(task.shard)
            if not is_current(output, path, task):
                return None
            try:
                index = read_catalog(output, path)
                idx = output.read(artifacts.index(task.shard))
            except (NotFoundError, TableError):
                return None
            return described(task.shard, index) if idx == format_index(index) else None

        def described(shard: str, index: ShardIndex) -> Metadata:
            beside = compare_beside(source, shard, index)
            if beside not in (NONE_BESIDE, AGREES):
                context.log.warning(f"{source.url}/{idx_path(shard)} is not used: {beside}")
            return {**describe(index), "idx_at_source": beside}

        tasks = shard_tasks(context, lineage, output)
        yield from record_shards(context, progress, tasks, one_by_one(make), find)

    return shard_index


def compare_beside(source: Storage, shard: str, index: ShardIndex) -> str:
    """Tell whether the ``.idx`` beside a raw shard agrees with the shard's own headers.

    Returns:
        ``NONE_BESIDE``, ``AGREES``, or what is wrong with it.
    """
    try:
        data = source.read(idx_path(shard))
    except NotFoundError:
        return NONE_BESIDE
    return find_difference(data, index) or AGREES


def describe(index: ShardIndex) -> Metadata:
    """Give an index's numbers for the UI."""
    reasons = Counter(index.losses["loss"].to_pylist())
    return {
        "samples": len(index),
        "members": len(index.components),
        "losses": count_table("reason", reasons),
        "lost_members": len(index.losses),
    }


def _makes(context: dg.AssetExecutionContext, asset: str) -> bool:
    """Tell whether the run makes an asset too."""
    chosen = context.run.asset_selection
    return chosen is None or dg.AssetKey(asset) in chosen


def _indexed(source: Storage, shard: str, on_damage: str) -> ShardIndex:
    """Index a tar; one that is damaged has no samples unless it is to be salvaged."""
    members = read_members(source, tar_path(shard), on_damage="salvage")
    if members.damage is not None and on_damage != "salvage":
        return index_without_samples(members)
    return build_index(members)
