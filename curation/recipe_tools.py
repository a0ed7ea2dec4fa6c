"""From a recipe to the objects that work: one function for each family.

Every road comes through here: Dagster's resources, the commands, a notebook that has a
recipe. So a setting is read at one place and can't be lost on one of the roads.

Belongs here: which settings an object is made of. Nothing is loaded or started.
"""

import os
from pathlib import Path

from curation.devices import first_device
from curation.embedders import Embedder, make_embedder
from curation.embedding_workers import (
    EmbeddingTools,
    EmbeddingWorkers,
    TextEmbeddingTools,
    make_embedding_workers,
)
from curation.errors import InputError
from curation.image_loaders import ImageLoader, LoaderSettings
from curation.recipe import Recipe
from curation.storage import LocalCopies
from curation.text_embedders import make_text_embedder


def image_embedder(recipe: Recipe) -> Embedder:
    """Make the recipe's encoder of images; whoever embeds says on which device."""
    encoder = recipe.encoder
    return make_embedder(
        "timm",
        model=encoder.model,
        weights=encoder.weights,
        precision=encoder.precision,
        compiled=recipe.machine.compile,
    )


def embedding_tools(recipe: Recipe) -> EmbeddingTools:
    """Make what each worker makes an image loader and the encoder of."""
    machine, images = recipe.machine, recipe.images
    settings = LoaderSettings(
        batch_size=machine.batch_size,
        max_pixels=images.max_pixels,
        rotate_by_exif=images.rotate_by_exif,
        on_corruption=images.on_corruption,
        dali=machine.dali,
    )
    loader = None if machine.image_loader == "auto" else machine.image_loader
    return EmbeddingTools(image_embedder(recipe), loader, settings)


def text_tools(recipe: Recipe) -> TextEmbeddingTools:
    """Make what each worker makes the captions' encoder of.

    Raises:
        InputError: The recipe has no ``text_encoder``.
    """
    if recipe.text_encoder is None:
        raise InputError("the recipe has no text_encoder, which embeds captions; add one")
    return TextEmbeddingTools(
        make_text_embedder("open_clip", **recipe.text_encoder.model_dump())
    )


def embedding_workers(recipe: Recipe) -> EmbeddingWorkers:
    """Make the workers of the recipe's machine or cluster."""
    machine = recipe.machine
    return make_embedding_workers(
        machine.engine, machine.device, machine.workers, shared=machine.share_gpus
    )


def local_copies(recipe: Recipe) -> LocalCopies:
    """Say where local copies of remote tars are, and how large all of them may be."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    named = recipe.machine.copies_folder
    folder = Path(named) if named else Path(cache) / "curation"
    return LocalCopies(folder, int(recipe.machine.copies_gb * 1e9))


def make_tools(recipe: Recipe) -> tuple[ImageLoader, Embedder]:
    """Make the image loader and the encoder for the first device of this machine.

    Raises:
        InputError: The recipe asks for a GPU, and there is none.
    """
    return embedding_tools(recipe).make(first_device(recipe.machine.device))
