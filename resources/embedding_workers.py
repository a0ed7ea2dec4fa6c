"""What embeds, as a Dagster resource: this machine's GPUs or cores, or a Ray cluster."""

from typing import Literal

import dagster as dg

from curation.embedding_workers import EmbeddingWorkers, make_embedding_workers


class EmbeddingWorkersResource(dg.ConfigurableResource[EmbeddingWorkers]):
    """Workers that embed. Nothing is started or claimed until shards are given to them."""

    engine: Literal["local", "ray"]
    kind: Literal["cuda", "cpu", "auto"]
    count: int | None = None
    shared: bool = False

    def create_resource(self, context: dg.InitResourceContext) -> EmbeddingWorkers:
        """Make the core's workers."""
        return make_embedding_workers(
            self.engine, self.kind, self.count, shared=self.shared
        )
