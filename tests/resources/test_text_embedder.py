"""The captions' encoder as a resource."""

import dagster as dg

from curation.text_embedders import OpenClipTextEmbedder
from resources.text_embedder import TextEmbedderResource


def test_the_settings_reach_the_embedder() -> None:
    resource = TextEmbedderResource(model="ViT-B-32", pretrained="openai", weights="hub")
    made = resource.create_resource(dg.build_init_resource_context())
    assert made == OpenClipTextEmbedder("ViT-B-32", "openai", "hub")
