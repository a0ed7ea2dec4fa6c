"""Family: texts to vectors in the space of images. One file per kind of model."""

from typing import Any

from curation.errors import UnknownNameError
from curation.text_embedders.base import TextEmbedder
from curation.text_embedders.open_clip import OpenClipTextEmbedder

__all__ = ["TEXT_EMBEDDERS", "OpenClipTextEmbedder", "TextEmbedder", "make_text_embedder"]

TEXT_EMBEDDERS: dict[str, type[TextEmbedder]] = {"open_clip": OpenClipTextEmbedder}


def make_text_embedder(name: str, **settings: Any) -> TextEmbedder:
    """Make the text embedder of that name; nothing is loaded yet.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if name not in TEXT_EMBEDDERS:
        raise UnknownNameError.among("text embedder", name, TEXT_EMBEDDERS)
    return TEXT_EMBEDDERS[name](**settings)
