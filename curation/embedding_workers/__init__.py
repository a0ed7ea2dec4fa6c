"""Embedding many shards at once, with the model loaded once per device.

A member says where: processes of this machine, or actors of a Ray cluster. What is done
with a shard is the same function everywhere, and so are the bytes that it writes.
"""

from typing import Literal

from curation.embedding_workers.base import (
    EmbeddingTools,
    EmbeddingWorkers,
    Outcome,
    TextEmbeddingTools,
)
from curation.embedding_workers.local import LocalWorkers, embed_on_workers
from curation.embedding_workers.ray import RayWorkers

__all__ = [
    "EmbeddingTools",
    "EmbeddingWorkers",
    "LocalWorkers",
    "Outcome",
    "RayWorkers",
    "TextEmbeddingTools",
    "embed_on_workers",
    "make_embedding_workers",
]


def make_embedding_workers(
    engine: Literal["local", "ray"],
    kind: Literal["cuda", "cpu", "auto"],
    count: int | None = None,
    *,
    shared: bool = False,
) -> EmbeddingWorkers:
    """Make the workers that a recipe's ``machine`` describes; nothing is started yet.

    Args:
        engine: This machine, or a Ray cluster.
        kind: What each worker computes on.
        count: How many; by default one per GPU, or per core.
        shared: On this machine, use GPUs that other runs use too. Ray deals its own out.
    """
    if engine == "ray":
        return RayWorkers(kind, count)
    return LocalWorkers(kind, count, shared)
