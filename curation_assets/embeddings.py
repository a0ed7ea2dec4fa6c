"""Vectors and image facts of every sample: the one pass that opens images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from curation.embedding import CORRUPTION
from curation.embedding_workers import EmbeddingTools, EmbeddingWorkers, Outcome
from curation.errors import CurationError
from curation.shard_embedding import EmbedShard, embed_shard
from curation.storage import LocalCopies, Storage
from curation.tables import EMBEDDINGS, read_table
from curation_assets.lineage import Lineage
from curation_assets.metadata import count_table, indexed_sheets
from curation_assets.partitions import tar_path
from curation_assets.run_tags import record_cost
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

GPU_POOL = "gpu"
_DESCRIBED = ["error", "image_start", "image_bytes", "sharpness", "brightness"]


def embeddings_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``embeddings`` for a recipe."""
    artifacts = lineage.artifacts

    @dg.asset(
        **shard_asset_options(lineage, "embeddings"),
        group_name="images",
        kinds={"timm", "dali", "parquet"},
        pool=GPU_POOL,
        description="One row per sample: its embedding, image facts, caption and metadata, "
        "or the reason why its image could not be used.",
    )
    def embeddings(
        context: dg.AssetExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
        embedding_tools: dg.ResourceParam[EmbeddingTools],
        embedding_workers: dg.ResourceParam[EmbeddingWorkers],
        local_copies: dg.ResourceParam[LocalCopies],
        progress: dg.ResourceParam[Progress],
    ) -> AssetEvents:
        keeps = lineage.recipe.images.on_corruption == "keep"
        columns = [*_DESCRIBED, CORRUPTION] if keeps else _DESCRIBED

        def describe(task: ShardTask) -> Metadata:
            table = read_table(
                output, artifacts.embeddings(task.shard), EMBEDDINGS, columns
            )
            good = table.filter(table["error"].is_null())
            first = {"The first samples": good}
            catalog = artifacts.catalog(task.shard)
            pictures = indexed_sheets(source, output, catalog, first)
            return described(table) | {"pictures": pictures}

        def make(tasks: Sequence[ShardTask]) -> Iterator[Made]:
            if not tasks:
                return
            work = {_embed_shard(task): task for task in tasks}

            def fetch(task: EmbedShard) -> None:
                local_copies.fetch(source, tar_path(work[task].shard))

            def move(task: EmbedShard, done: int, total: int) -> None:
                progress.move(work[task].shard, done, total)

            with record_cost(context, lineage) as cost:
                for done in embedding_workers.embed(
                    work, embed_shard, embedding_tools, ahead=fetch, moved=move
                ):
                    cost.count(done.device, done.seconds, done.result)
                    task = work[done.task]
                    yield task, failure(done) or {**describe(task), **_speed(done)}

        def find(task: ShardTask) -> Metadata | None:
            path = artifacts.embeddings(task.shard)
            return describe(task) if is_current(output, path, task) else None

        def _embed_shard(task: ShardTask) -> EmbedShard:
            return EmbedShard(
                source,
                output,
                artifacts.catalog(task.shard),
                artifacts.embeddings(task.shard),
                task.fingerprint,
                lineage.recipe.images,
                local_copies,
                lineage.recipe.texts,
            )

        yield from record_shards(
            context, progress, shard_tasks(context, lineage, output), make, find
        )

    return embeddings


def described(table: pa.Table) -> dict[str, Any]:
    """Give an embeddings table's numbers for the UI."""
    errors = Counter(table["error"].drop_null().to_pylist())
    corrupt = {}
    if CORRUPTION in table.column_names:
        kept = Counter(table[CORRUPTION].drop_null().to_pylist())
        corrupt = {
            "corrupt_and_kept": kept.total(),
            "corruption_found": count_table("what Pillow says", kept),
        }
    return corrupt | {
        "samples": table.num_rows,
        "quarantined": errors.total(),
        "quarantined_fraction": errors.total() / max(table.num_rows, 1),
        "quarantine_reasons": count_table("reason", errors),
        "mean_sharpness": _mean(table["sharpness"]),
        "mean_brightness": _mean(table["brightness"]),
    }


def _mean(column: pa.ChunkedArray) -> float:
    return pc.mean(column).as_py() or 0.0


def _speed(done: Outcome[EmbedShard, int]) -> dict[str, float]:
    samples = done.result or 0
    return {
        "seconds": done.seconds,
        "samples_per_second": samples / max(done.seconds, 1e-9),
    }


def failure(done: Outcome[Any, Any]) -> CurationError | None:
    """Give a shard's error; one that isn't of this package is a fault, and ends the run."""
    if done.error is None or isinstance(done.error, CurationError):
        return done.error
    raise done.error
