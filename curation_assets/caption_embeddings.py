"""Vectors of every sample's caption, in the space of the images'.

Only recipes with a ``text_encoder`` have this asset.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from curation.embedding_workers import EmbeddingWorkers, TextEmbeddingTools
from curation.storage import Storage
from curation.tables import CAPTIONS, TEXT_EMBEDDING, read_table
from curation.text_embedding import EmbedCaptions, embed_shard_captions
from curation_assets.embeddings import GPU_POOL, failure
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import (
    AssetEvents,
    Made,
    Metadata,
    ShardTask,
    is_current,
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
        pool=GPU_POOL,
        description="One row per sample: its caption's embedding, null where there is no "
        "caption or no image to go with it.",
    )
    def caption_embeddings(
        context: dg.AssetExecutionContext,
        output: dg.ResourceParam[Storage],
        text_tools: dg.ResourceParam[TextEmbeddingTools],
        embedding_workers: dg.ResourceParam[EmbeddingWorkers],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        def make(tasks: Sequence[ShardTask]) -> Iterator[Made]:
            if not tasks:
                return
            work = {_embed_captions(task): task for task in tasks}

            def move(task: EmbedCaptions, done: int, total: int) -> None:
                progress.move(work[task].shard, done, total)

            for done in embedding_workers.embed(
                work, embed_shard_captions, text_tools, moved=move
            ):
                task = work[done.task]
                yield task, failure(done) or describe(task) | {"seconds": done.seconds}

        def describe(task: ShardTask) -> dict[str, Any]:
            path = artifacts.caption_embeddings(task.shard)
            return described(read_table(output, path, CAPTIONS))

        def find(task: ShardTask) -> Metadata | None:
            path = artifacts.caption_embeddings(task.shard)
            return describe(task) if is_current(output, path, task) else None

        def _embed_captions(task: ShardTask) -> EmbedCaptions:
            return EmbedCaptions(
                output,
                artifacts.embeddings(task.shard),
                artifacts.caption_embeddings(task.shard),
                task.fingerprint,
            )

        tasks = shard_tasks(context, lineage, output)
        yield from record_shards(context, progress, tasks, make, find)

    return caption_embeddings


def described(table: pa.Table) -> dict[str, Any]:
    """Give the numbers of a table of captions' embeddings for the UI."""
    vectors = table[TEXT_EMBEDDING]
    return {"samples": table.num_rows, "with_caption": len(vectors) - vectors.null_count}
