"""What a training job imports: batches of images and embeddings, or of embeddings alone.

Names are loaded when they are first used; importing this package loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.training.image_embedding import ImageEmbeddingDataset
    from curation.training.image_embedding_loader import create_image_embedding_dataloader
    from curation.training.prior_embedding import (
        PriorEmbeddingDataset,
        get_reader,
        make_splits,
    )

_MODULES = {
    "ImageEmbeddingDataset": "image_embedding",
    "create_image_embedding_dataloader": "image_embedding_loader",
    "PriorEmbeddingDataset": "prior_embedding",
    "get_reader": "prior_embedding",
    "make_splits": "prior_embedding",
}

__all__ = [
    "ImageEmbeddingDataset",
    "PriorEmbeddingDataset",
    "create_image_embedding_dataloader",
    "get_reader",
    "make_splits",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
