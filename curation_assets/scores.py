"""Every classifier's score of every sample, in one read of the vectors."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from curation.classifiers import Classifier
from curation.scoring import score_embeddings
from curation.storage import Storage
from curation.tables import (
    CAPTIONS,
    EMBEDDING,
    EMBEDDINGS,
    SCORES,
    read_table,
    write_table,
)
from curation_assets.lineage import Lineage
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


def scores_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``scores`` for a recipe."""
    artifacts = lineage.artifacts

    @dg.asset(
        **shard_asset_options(lineage, "scores"),
        group_name="images",
        kinds={"torch", "parquet"},
        description="One column per classifier of the recipe. Scores are kept whatever is "
        "decided by them, so that another threshold needs no model.",
    )
    def scores(
        context: dg.AssetExecutionContext,
        output: dg.ResourceParam[Storage],
        classifiers: dg.ResourceParam[dict[str, Classifier]],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        def make(task: ShardTask) -> Metadata:
            vectors = read_table(
                output, artifacts.embeddings(task.shard), EMBEDDINGS, ["key", EMBEDDING]
            )
            table = score_embeddings(
                vectors, classifiers, captions=_captions(output, lineage, task.shard)
            )
            path = artifacts.scores(task.shard)
            write_table(output, path, SCORES, table, fingerprint=task.fingerprint)
            return described(table)

        def find(task: ShardTask) -> Metadata | None:
            path = artifacts.scores(task.shard)
            if not is_current(output, path, task):
                return None
            return described(read_table(output, path, SCORES))

        tasks = shard_tasks(context, lineage, output)
        yield from record_shards(context, progress, tasks, one_by_one(make), find)

    return scores


def _captions(output: Storage, lineage: Lineage, shard: str) -> pa.Table | None:
    if "caption_embeddings" not in lineage.assets:
        return None
    return read_table(output, lineage.artifacts.caption_embeddings(shard), CAPTIONS)


def described(table: pa.Table) -> Metadata:
    """Give a scores table's numbers for the UI, which plots them over partitions."""
    means = {
        f"mean_{name}": pc.mean(table[name]).as_py() or 0.0
        for name in table.column_names
        if name != "key"
    }
    return {"samples": table.num_rows, **means}
