"""A check of some vectors against timm itself, in every run that embeds.

Apart from the others, since it opens images and loads the model once more, on the CPU.
"""

from dataclasses import replace
from typing import Any

import dagster as dg
import numpy as np

from curation.embedding_workers import EmbeddingTools
from curation.errors import CurationError
from curation.parity import stored_cosines
from curation.storage import Storage
from curation.tables import EMBEDDING, EMBEDDINGS, embedding_matrix, read_table
from curation_assets.checks import shards_to_check
from curation_assets.lineage import Lineage
from curation_assets.partitions import tar_path

NUM_IMAGES = 8
MEDIAN_COSINE = 0.998
"""Half precision and a GPU's JPEG decoder leave more than this; a transform that places
pixels otherwise than timm's, or other weights, don't."""

PARITY_CHECK = "vectors_are_timms"
ADVICE = (
    "measure it on more images with `curate doctor --parity`, and try "
    "machine.image_loader: pillow, which is timm's own way."
)


def parity_check(lineage: Lineage) -> dg.AssetChecksDefinition:
    """Define the check for a recipe."""

    @dg.asset_check(
        asset="embeddings",
        name=PARITY_CHECK,
        description=f"Some images of the run's first shard, decoded by Pillow, placed by "
        f"timm's transform and embedded on the CPU, have the vectors that were stored. If "
        f"not: {ADVICE}",
    )
    def vectors_are_timms(
        context: dg.AssetCheckExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
        embedding_tools: dg.ResourceParam[EmbeddingTools],
    ) -> dg.AssetCheckResult:
        shards, _ = shards_to_check(context, "embeddings")
        if not shards:
            return dg.AssetCheckResult(passed=True, metadata={"images": 0})
        try:
            cosines = sampled_cosines(lineage, source, output, embedding_tools, shards[0])
        except CurationError as error:  # the tar was replaced meanwhile, or storage failed
            return _failed(str(error), {"shard": shards[0]})
        median = float(np.median(cosines)) if len(cosines) else 1.0
        about: dict[str, Any] = {
            "shard": shards[0],
            "images": len(cosines),
            "median_cosine": median,
            "min_cosine": float(cosines.min(initial=1.0)),
        }
        if median >= MEDIAN_COSINE:
            return dg.AssetCheckResult(passed=True, metadata=about)
        found = f"{shards[0]}: the median cosine is {median:.4f}, below {MEDIAN_COSINE}"
        return _failed(found, about)

    return vectors_are_timms


def sampled_cosines(
    lineage: Lineage, source: Storage, output: Storage, tools: EmbeddingTools, shard: str
) -> np.ndarray:
    """Compare some stored vectors of a shard with what timm gives: ``(n,)`` cosines."""
    columns = ["error", "image_start", "image_bytes", EMBEDDING]
    path = lineage.artifacts.embeddings(shard)
    table = read_table(output, path, EMBEDDINGS, columns)
    good = np.flatnonzero(table["error"].is_null().to_numpy())
    rows = good[:: max(len(good) // NUM_IMAGES, 1)][:NUM_IMAGES]
    chosen = table.take(rows)
    places = chosen.select(["image_start", "image_bytes"]).to_pylist()
    images = [
        source.read(
            tar_path(shard), at["image_start"], at["image_start"] + at["image_bytes"]
        )
        for at in places
    ]
    vectors = embedding_matrix(chosen[EMBEDDING])[0]
    # batches of the size that suits a CPU, not of the recipe's, which is for its device
    settings = replace(tools.settings, batch_size=None)
    return stored_cosines(images, vectors, tools.embedder.on("cpu"), settings)


def _failed(found: str, about: dict[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{found}\nWhat to do: {ADVICE}",
        metadata=about,
    )
