"""Curate WebDataset shards of images and captions into training sets.

The names below are imported when they are first used, so that ``import curation`` costs
nothing and loads neither torch nor Dagster.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AestheticClassifier": "curation.classifiers",
    "Classifier": "curation.classifiers",
    "CurationError": "curation.errors",
    "Embedder": "curation.embedders",
    "ImageEmbedder": "curation.dataset_embedders",
    "ImageLoader": "curation.image_loaders",
    "ImageTextPairDataset": "curation.dataset",
    "NsfwClassifier": "curation.classifiers",
    "Storage": "curation.storage",
    "TimmImageEmbedder": "curation.dataset_embedders",
    "build_index": "curation.index",
    "check_ready": "curation.recipe_check",
    "check_recipe": "curation.recipe_check",
    "embed_samples": "curation.embedding",
    "format_index": "curation.dali_index",
    "load_recipe": "curation.recipe",
    "make_classifier": "curation.classifiers",
    "make_embedder": "curation.embedders",
    "make_filter": "curation.filters",
    "make_image_loader": "curation.image_loaders",
    "open_storage": "curation.storage",
    "plan_release": "curation.release",
    "publish_release": "curation.release",
    "parse_index": "curation.dali_index",
    "read_members": "curation.tar",
    "read_samples": "curation.samples",
    "score_embeddings": "curation.scoring",
    "select_samples": "curation.selection",
    "take_down": "curation.release",
    "verify_release": "curation.verify",
    "verify_shards": "curation.verify",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
