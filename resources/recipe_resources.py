"""A recipe as Dagster resources: what assets are handed, by the name of their parameter."""

from typing import Any

import dagster as dg

from curation.classifiers import make_classifiers
from curation.recipe import Recipe
from curation.recipe_check import check_ready
from curation.recipe_tools import (
    embedding_tools,
    embedding_workers,
    local_copies,
    text_tools,
)
from curation.storage import open_storage
from resources.progress import ProgressResource

CHECKED_FOR = {
    "embedding_tools": "embeddings",
    "text_tools": "caption_embeddings",
    "classifiers": "scores",
}
"""Resource to the asset that works with it."""


def recipe_resources(recipe: Recipe) -> dict[str, Any]:
    """Make the resources that a recipe describes.

    A run is handed what its steps need before the first of them starts. What can be known
    to be wrong is found then, and not when all shards are indexed.
    """
    return {
        name: _checked(recipe, CHECKED_FOR[name], made) if name in CHECKED_FOR else made
        for name, made in recipe_objects(recipe).items()
    }


def _checked(recipe: Recipe, asset: str, made: Any) -> dg.ResourceDefinition:
    def hand_out(_: dg.InitResourceContext) -> Any:
        check_ready(recipe, {asset})
        return made

    return dg.ResourceDefinition(hand_out)


def recipe_objects(recipe: Recipe) -> dict[str, Any]:
    """Make what assets work with, as the commands make it: the core's own objects.

    Nothing is loaded, connected to or started before an asset uses it.
    """
    captions = {"text_tools": text_tools(recipe)} if recipe.text_encoder else {}
    return {
        **captions,
        "source": open_storage(recipe.source, recipe.s3),
        "output": open_storage(recipe.output, recipe.s3),
        "embedding_tools": embedding_tools(recipe),
        "embedding_workers": embedding_workers(recipe),
        "classifiers": make_classifiers(recipe.classifiers),
        "progress": ProgressResource(),
        "local_copies": local_copies(recipe),
    }
