"""What embeds, as a resource."""

import dagster as dg

from curation.embedding_workers import LocalWorkers, RayWorkers
from resources.embedding_workers import EmbeddingWorkersResource


def test_the_engine_decides_which_workers_they_are() -> None:
    context = dg.build_init_resource_context()
    local = EmbeddingWorkersResource(engine="local", kind="cpu", count=3, shared=True)
    assert local.create_resource(context) == LocalWorkers("cpu", 3, shared=True)
    ray = EmbeddingWorkersResource(engine="ray", kind="auto")
    assert ray.create_resource(context) == RayWorkers("auto")
