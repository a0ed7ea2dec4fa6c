"""DALI does what every image loader does, by the graph that also runs on a GPU."""

from curation.image_loaders.base import ImageLoader, LoaderSettings
from curation.image_loaders.dali import DaliImageLoader, DaliSettings
from curation.image_transform import ImageTransform
from curation.testing.image_loader_contract import ImageLoaderContract


class TestDaliImageLoader(ImageLoaderContract):
    # images of 500 x 31 pixels squashed to 26 x 21; photographs: benchmarks/parity.py
    mean_difference = 0.4
    max_difference = 12

    def make(self, transform: ImageTransform, settings: LoaderSettings) -> ImageLoader:
        return DaliImageLoader(transform, settings, DaliSettings(num_threads=1))
