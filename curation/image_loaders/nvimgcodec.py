"""nvImageCodec decodes and torch resizes, one image at a time: the fastest on a CPU.

It is the decoder inside DALI 2 without DALI's pipeline, which fails a whole batch for one
bad image, and whose CPU resize takes three times as long as torch's and is less like
Pillow's (``benchmarks/parity.py``).
"""

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from curation.image_decoding import ImageHeader, decode_image, read_header
from curation.image_facts import THUMBNAIL_PIXELS
from curation.image_loaders.base import OneByOneLoader

if TYPE_CHECKING:
    import torch


class NvimgcodecImageLoader(OneByOneLoader):
    """One thread, one image after the other; run one process per core."""

    name: ClassVar[str] = "nvimgcodec"

    def read_header(self, data: bytes) -> ImageHeader:
        return read_header(data)

    def decode(self, data: bytes, header: ImageHeader) -> np.ndarray:
        return decode_image(data, header)

    def resize(
        self, image: np.ndarray, pixels: "torch.Tensor", thumbnail: "torch.Tensor"
    ) -> None:
        import torch

        transform = self.transform
        whole = torch.from_numpy(np.ascontiguousarray(image))  # may be a turned view
        side = THUMBNAIL_PIXELS
        thumbnail.copy_(_resized(whole, side, side, "bilinear"))
        place = transform.place(image.shape[1], image.shape[0])
        resized = _resized(whole, place.height, place.width, transform.interpolation)
        if place.height < transform.height or place.width < transform.width:
            pixels.copy_(pixels.new_tensor(transform.fill))
        rows = _overlap(place.top, place.height, transform.height)
        columns = _overlap(place.left, place.width, transform.width)
        pixels[rows[0], columns[0]] = resized[rows[1], columns[1]]


def _resized(image: "torch.Tensor", height: int, width: int, mode: str) -> "torch.Tensor":
    """Resize ``(rows, columns, 3)`` uint8 as Pillow does.

    torch's kernel for uint8 is Pillow's: across, then down, rounded to whole numbers
    between, with the same cubic (a = -0.5). Differences are at most 1 or 2 of 255.
    """
    from torch.nn.functional import interpolate

    # in this order, for torch to know the strides as channels-last and keep them
    planes = image[None].permute(0, 3, 1, 2)
    planes = interpolate(planes, (height, width), mode=mode, antialias=True)
    return planes[0].permute(1, 2, 0)


def _overlap(start: int, size: int, window: int) -> tuple[slice, slice]:
    """Find which part of a window shows the image, and which part of the image."""
    first, last = max(start, 0), min(start + window, size)
    return slice(first - start, last - start), slice(first, last)
