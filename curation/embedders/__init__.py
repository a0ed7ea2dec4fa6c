"""Family: batches of pixels to vectors. One file per kind of model."""

from typing import Any

from curation.embedders.base import Embedder
from curation.embedders.timm import TimmEmbedder
from curation.errors import UnknownNameError

__all__ = ["EMBEDDERS", "Embedder", "TimmEmbedder", "make_embedder"]

EMBEDDERS: dict[str, type[Embedder]] = {"timm": TimmEmbedder}


def make_embedder(name: str, **settings: Any) -> Embedder:
    """Make the embedder of that name; nothing is loaded yet.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if name not in EMBEDDERS:
        raise UnknownNameError.among("embedder", name, EMBEDDERS)
    return EMBEDDERS[name](**settings)
