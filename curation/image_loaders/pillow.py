"""Pillow decodes and Pillow resizes: what timm does, and what other loaders are held to."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from curation.image_decoding import ImageHeader, decode_with_pillow, read_pillow_header
from curation.image_facts import THUMBNAIL_PIXELS
from curation.image_loaders.base import OneByOneLoader

if TYPE_CHECKING:
    import torch


class PillowImageLoader(OneByOneLoader):
    """The reference: slow, and right by definition. Needs neither DALI nor nvImageCodec.

    Pixels are those of timm's evaluation transform, bit for bit, except that 16-bit
    grayscale keeps its upper 8 bits (:mod:`curation.image_decoding`).
    """

    name: ClassVar[str] = "pillow"

    def read_header(self, data: bytes) -> ImageHeader:
        return read_pillow_header(data)

    def decode(self, data: bytes, header: ImageHeader) -> np.ndarray:
        return decode_with_pillow(data)

    def resize(
        self, image: np.ndarray, pixels: "torch.Tensor", thumbnail: "torch.Tensor"
    ) -> None:
        import torch
        from PIL import Image

        whole = Image.fromarray(image)
        square = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
        small = whole.resize(square, Image.Resampling.BILINEAR)
        thumbnail.copy_(torch.from_numpy(np.array(small)))
        transform, place = self.transform, self.transform.place(*whole.size)
        method = Image.Resampling[transform.interpolation.upper()]
        resized = whole.resize((place.width, place.height), method)
        window = Image.new("RGB", (transform.width, transform.height), transform.fill)
        window.paste(resized, (-place.left, -place.top))
        pixels.copy_(torch.from_numpy(np.array(window)))
