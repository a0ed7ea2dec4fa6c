"""What decodes and resizes images, as a Dagster resource."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from curation.image_loaders import LoaderSettings
from curation.recipe import DaliSettings


@dataclass(frozen=True)
class ImageLoaderChoice:
    """Which loader each worker makes for itself, and how."""

    name: str | None
    """``dali``, ``nvimgcodec`` or ``pillow``; None leaves it to the device."""
    settings: LoaderSettings


class ImageLoaderResource(dg.ConfigurableResource[ImageLoaderChoice]):
    """DALI on a GPU; on a CPU its decoder, nvImageCodec, unless another one is named."""

    loader: str | None
    batch_size: int | None
    max_pixels: int
    rotate_by_exif: bool
    dali: dict[str, Any]

    def create_resource(self, context: dg.InitResourceContext) -> ImageLoaderChoice:
        """Say which loader to make; the workers make it, one per device."""
        settings = LoaderSettings(
            batch_size=self.batch_size,
            max_pixels=self.max_pixels,
            rotate_by_exif=self.rotate_by_exif,
            dali=DaliSettings.model_validate(self.dali),
        )
        return ImageLoaderChoice(self.loader, settings)
