"""The encoder as a Dagster resource."""

import dagster as dg

from curation.embedders import Embedder, make_embedder


class EmbedderResource(dg.ConfigurableResource[Embedder]):
    """The model that turns images into vectors. Nothing is loaded until it is used."""

    model: str
    weights: str
    precision: str
    compiled: bool

    def create_resource(self, context: dg.InitResourceContext) -> Embedder:
        """Make the core's embedder."""
        return make_embedder(
            "timm",
            model=self.model,
            weights=self.weights,
            precision=self.precision,
            compiled=self.compiled,
        )
