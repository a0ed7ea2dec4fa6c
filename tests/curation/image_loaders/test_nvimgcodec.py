"""nvImageCodec and torch do what every image loader does."""

from curation.image_loaders.base import ImageLoader, LoaderSettings
from curation.image_loaders.nvimgcodec import NvimgcodecImageLoader
from curation.image_transform import ImageTransform
from curation.testing.image_loader_contract import ImageLoaderContract


class TestNvimgcodecImageLoader(ImageLoaderContract):
    def make(self, transform: ImageTransform, settings: LoaderSettings) -> ImageLoader:
        return NvimgcodecImageLoader(transform, settings)
