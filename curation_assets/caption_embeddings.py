"""Vectors of every sample's caption, in the space of the images'.

Only recipes with a ``text_encoder`` have this asset.
"""

import dagster as dg
import pyarrow as pa

from curation.storage import Storage
from curation.tables import CAPTIONS, EMBEDDINGS, TEXT_EMBEDDING, read_table, write_table
from curation.text_embedders import TextEmbedder
from curation.text_embedding import embed_captions
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


def caption_embeddings_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``caption_embeddings`` for a recipe with a text encoder."""
    artifacts = lineage.artifacts

    @dg.asset(
        **shard_asset_options(lineage, "caption_embeddings"),
        group_name="images",
        kinds={"torch", "parquet"},
        description="One row per sample: its caption's embedding, null where there is no "
        "caption or no image to go with it.",
    )
    def caption_embeddings(
        context: dg.AssetExecutionContext,
        output: dg.ResourceParam[Storage],
        text_embedder: dg.ResourceParam[TextEmbedder],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        def make(task: ShardTask) -> Metadata:
            path = artifacts.embeddings(task.shard)
            facts = read_table(output, path, EMBEDDINGS, ["key", "error", "caption"])
            table = embed_captions(facts, text_embedder)
            path = artifacts.caption_embeddings(task.shard)
            write_table(output, path, CAPTIONS, table, fingerprint=task.fingerprint)
            return described(table)

        def find(task: ShardTask) -> Metadata | None:
            path = artifacts.caption_embeddings(task.shard)
            if not is_current(output, path, task):
                return None
            return described(read_table(output, path, CAPTIONS))

        tasks = shard_tasks(context, lineage)
        yield from record_shards(context, progress, tasks, one_by_one(make), find)

    return caption_embeddings


def described(table: pa.Table) -> Metadata:
    """Give the numbers of a table of captions' embeddings for the UI."""
    vectors = table[TEXT_EMBEDDING]
    return {"samples": table.num_rows, "with_caption": len(vectors) - vectors.null_count}
