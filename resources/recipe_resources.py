"""A recipe as Dagster resources: what assets are handed, by the name of their parameter."""

from typing import Any

from curation.classifiers import make_classifiers
from curation.recipe import Recipe
from curation.recipe_tools import (
    embedding_tools,
    embedding_workers,
    local_copies,
    text_tools,
)
from curation.storage import open_storage
from resources.progress import ProgressResource


def recipe_resources(recipe: Recipe) -> dict[str, Any]:
    """Make the resources that a recipe describes.

    They are the core's own objects, made as the commands make them: nothing is loaded,
    connected to or started before an asset uses it.
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
