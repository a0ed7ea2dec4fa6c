"""What a recipe embeds with, for the commands that embed outside of a run."""

from curation.devices import visible_gpus
from curation.embedders import Embedder, make_embedder
from curation.embedding_workers import EmbeddingTools
from curation.errors import InputError
from curation.image_loaders import ImageLoader, LoaderSettings
from curation.recipe import Recipe


def embedding_tools(recipe: Recipe) -> EmbeddingTools:
    """Give the recipe's encoder and image loader, with nothing loaded yet."""
    machine, encoder = recipe.machine, recipe.encoder
    embedder = make_embedder(
        "timm",
        model=encoder.model,
        weights=encoder.weights,
        precision=encoder.precision,
        compiled=machine.compile,
    )
    settings = LoaderSettings(
        batch_size=machine.batch_size,
        max_pixels=recipe.images.max_pixels,
        rotate_by_exif=recipe.images.rotate_by_exif,
    )
    loader = None if machine.image_loader == "auto" else machine.image_loader
    return EmbeddingTools(embedder, loader, settings)


def first_device(recipe: Recipe) -> str:
    """Name the device that the recipe computes on first.

    Raises:
        InputError: It asks for a GPU, and there is none.
    """
    if recipe.machine.device == "cpu":
        return "cpu"
    if visible_gpus():
        return "cuda:0"
    if recipe.machine.device == "cuda":
        raise InputError(
            "machine.device is cuda, and PyTorch finds no GPU here; set it to auto to use "
            "the CPU instead"
        )
    return "cpu"


def make_tools(recipe: Recipe) -> tuple[ImageLoader, Embedder]:
    """Make the recipe's loader and embedder for its first device.

    Raises:
        InputError: It asks for a GPU, and there is none.
    """
    return embedding_tools(recipe).make(first_device(recipe))
