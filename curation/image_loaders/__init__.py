"""Family: encoded images to batches of pixels. One file per way of decoding."""

from curation.errors import UnknownNameError
from curation.image_loaders.base import (
    EncodedImage,
    ImageBatch,
    ImageLoader,
    LoadedImage,
    LoaderSettings,
)
from curation.image_loaders.dali import DaliImageLoader
from curation.image_loaders.nvimgcodec import NvimgcodecImageLoader
from curation.image_loaders.pillow import PillowImageLoader
from curation.image_transform import ImageTransform

__all__ = [
    "IMAGE_LOADERS",
    "EncodedImage",
    "ImageBatch",
    "ImageLoader",
    "LoadedImage",
    "LoaderSettings",
    "make_image_loader",
]

IMAGE_LOADERS: dict[str, type[ImageLoader]] = {
    loader.name: loader
    for loader in (DaliImageLoader, NvimgcodecImageLoader, PillowImageLoader)
}


def make_image_loader(
    name: str, transform: ImageTransform, settings: LoaderSettings
) -> ImageLoader:
    """Make the image loader of that name; nothing is built yet.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if name not in IMAGE_LOADERS:
        raise UnknownNameError.among("image loader", name, IMAGE_LOADERS)
    return IMAGE_LOADERS[name](transform, settings)
