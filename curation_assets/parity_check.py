"""A check of some vectors against timm itself, in every run that embeds.

Apart from the others, since it opens images and loads the model once more, on the CPU.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import numpy as np

from curation.embedding_workers import EmbeddingTools
from curation.errors import CurationError
from curation.parity import stored_cosines
from curation.storage import Storage
from curation.tables import EMBEDDING, EMBEDDINGS, embedding_matrix, read_table
from curation_assets.check_records import (
    Check,
    check_result,
    found_before,
    shards_to_check,
)
from curation_assets.lineage import Lineage
from curation_assets.partitions import tar_path

NUM_IMAGES = 8
MEDIAN_COSINE = 0.998
"""Half precision and a GPU's JPEG decoder leave more than this; a transform that places
pixels otherwise than timm's, or other weights, don't."""

PARITY = Check(
    "embeddings",
    "vectors_are_timms",
    "Some images of the run's first shard that has any, decoded by Pillow, placed by "
    "timm's transform and embedded on the CPU, have the vectors that were stored.",
    "measure it on more images with `curate doctor --parity`, and try "
    "machine.image_loader: pillow, which is timm's own way.",
    dg.AssetCheckSeverity.WARN,
)


def parity_check(lineage: Lineage) -> dg.AssetChecksDefinition:
    """Define the check for a recipe."""

    @dg.asset_check(
        asset=PARITY.asset,
        name=PARITY.name,
        description=f"{PARITY.promise} If not: {PARITY.advice}",
    )
    def vectors_are_timms(
        context: dg.AssetCheckExecutionContext,
        source: dg.ResourceParam[Storage],
        output: dg.ResourceParam[Storage],
        embedding_tools: dg.ResourceParam[EmbeddingTools],
    ) -> dg.AssetCheckResult:
        shards, recorded = shards_to_check(context, PARITY.asset)
        found, about, is_known = _compare(lineage, source, output, embedding_tools, shards)
        before = found_before(context.instance, lineage, PARITY, recorded, shards)
        looked_at = set(shards) if is_known else set()
        versions = {s: v for s, v in recorded.items() if s in looked_at}
        marks = PARITY.marks(lineage, versions)
        return check_result(PARITY, marks, found, before, about)

    return vectors_are_timms


def _compare(
    lineage: Lineage,
    source: Storage,
    output: Storage,
    tools: EmbeddingTools,
    shards: Sequence[str],
) -> tuple[dict[str, list[str]], dict[str, Any], bool]:
    """Compare vectors of the first shard that has any.

    Returns:
        What is wrong, by shard; what was measured; and whether anything is known now.
    """
    for shard in shards:
        try:
            cosines = sampled_cosines(lineage, source, output, tools, shard)
        except CurationError as error:  # the tar was replaced meanwhile, or storage failed
            return {shard: [str(error)]}, {"shard": shard}, False
        if len(cosines):
            return {shard: _judged(cosines)}, _described(shard, cosines), True
    return {}, {"images": 0}, True


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


def _judged(cosines: np.ndarray) -> list[str]:
    found = []
    refused = int(np.isnan(cosines).sum())
    if refused:
        found.append(
            f"{refused} of {len(cosines)} images have a vector, and Pillow refuses them: "
            "they are damaged, and were embedded before such images were quarantined "
            "(docs/images.md); delete the shard's file under embeddings/ and run again"
        )
    median = _median(cosines)
    if median < MEDIAN_COSINE:
        found.append(f"the median cosine is {median:.4f}, below {MEDIAN_COSINE}")
    return found


def _median(cosines: np.ndarray) -> float:
    """Give the median of those that can be compared; 1 if there are none."""
    known = cosines[~np.isnan(cosines)]
    return float(np.median(known)) if len(known) else 1.0


def _described(shard: str, cosines: np.ndarray) -> dict[str, Any]:
    return {
        "shard": shard,
        "images": len(cosines),
        "median_cosine": _median(cosines),
        "min_cosine": float(np.fmin.reduce(cosines, initial=1.0)),
    }
