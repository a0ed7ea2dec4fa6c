"""The captions' encoder as a Dagster resource."""

import dagster as dg

from curation.text_embedders import TextEmbedder, make_text_embedder


class TextEmbedderResource(dg.ConfigurableResource[TextEmbedder]):
    """The model that turns captions into vectors. Nothing is loaded until it is used."""

    model: str
    pretrained: str
    weights: str

    def create_resource(self, context: dg.InitResourceContext) -> TextEmbedder:
        """Make the core's text embedder."""
        return make_text_embedder(
            "open_clip", model=self.model, pretrained=self.pretrained, weights=self.weights
        )
