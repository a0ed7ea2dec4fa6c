"""Kept or dropped, with every reason: the recipe's filter over all that is known."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from curation.filters import make_filter
from curation.selection import count_reasons, needed_facts, needed_scores, select_samples
from curation.storage import Storage
from curation.tables import (
    DUPLICATES,
    EMBEDDINGS,
    SCORES,
    SELECTION,
    read_table,
    write_table,
)
from curation_assets.failures import run_failures
from curation_assets.filter_cuts import bound_filter
from curation_assets.lineage import Lineage
from curation_assets.metadata import count_table, indexed_sheets
from curation_assets.shard_asset import (
    AssetEvents,
    Metadata,
    ShardTask,
    is_current,
    one_by_one,
    record_shards,
    recorded_version,
    shard_asset_options,
    shard_tasks,
)
from resources.progress import Progress

_IMAGE_RANGE = ["image_start", "image_bytes", "error"]


def selection_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``selection`` for a recipe."""
    artifacts = lineage.artifacts
    text = make_filter(lineage.recipe.filter).canonical()

    @dg.asset(
        **shard_asset_options(lineage, "selection"),
        group_name="decision",
        kinds={"polars", "parquet"},
        description=f"Which samples are kept, and of each dropped one every reason. The "
        f"filter:\n\n```\n{text}\n```",
    )
    def selection(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        tasks = shard_tasks(context, lineage, output)
        with run_failures():
            cuts = recorded_version(context.instance, "filter_cuts")
            filter_ = bound_filter(output, lineage, cuts)

        def make(task: ShardTask) -> Metadata:
            shard = task.shard
            facts, scores = artifacts.embeddings(shard), artifacts.scores(shard)
            table = select_samples(
                read_table(output, facts, EMBEDDINGS, needed_facts(filter_)),
                read_table(output, scores, SCORES, needed_scores(filter_)),
                read_table(output, artifacts.duplicates(shard), DUPLICATES),
                filter_,
            )
            path = artifacts.selection(shard)
            write_table(output, path, SELECTION, table, fingerprint=task.fingerprint)
            return describe(shard, table)

        def find(task: ShardTask) -> Metadata | None:
            path = artifacts.selection(task.shard)
            if not is_current(output, path, task):
                return None
            return describe(task.shard, read_table(output, path, SELECTION))

        def describe(shard: str, table: pa.Table) -> Metadata:
            path = artifacts.embeddings(shard)
            images = read_table(output, path, EMBEDDINGS, _IMAGE_RANGE)
            counts = count_reasons([table])
            groups = {f"kept ({pc.sum(table['kept']).as_py() or 0})": table["kept"]}
            groups |= {f"{r} ({n})": _has_reason(table, r) for r, n in counts.items()}
            sheets = {title: images.filter(mask) for title, mask in groups.items()}
            return {
                **numbers(table),
                "reasons": count_table("reason", counts),
                "pictures": indexed_sheets(
                    source, output, artifacts.catalog(shard), sheets
                ),
            }

        yield from record_shards(context, progress, tasks, one_by_one(make), find)

    return selection


def numbers(table: pa.Table) -> Metadata:
    """Give the numbers of a selection that plot over partitions."""
    kept = pc.sum(table["kept"]).as_py() or 0
    return {
        "samples": table.num_rows,
        "kept": kept,
        "dropped": table.num_rows - kept,
        "kept_fraction": kept / max(table.num_rows, 1),
    }


def _has_reason(table: pa.Table, reason: str) -> pa.Array:
    """Tell which rows have a reason, all quarantined ones having the same."""
    found = [
        any(r == reason or r.startswith(f"{reason}: ") for r in reasons)
        for reasons in table["reasons"].to_pylist()
    ]
    return pa.array(found, pa.bool_())
