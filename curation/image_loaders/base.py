"""What every image loader does: encoded images in, batches of pixels for a model out.

A batch has a fixed number of slots and every image keeps the slot it got when it was
read: one that can't be decoded leaves its slot black and takes its reason along. So a
good image is computed in the same place whether or not its neighbours are damaged, and
its vector is the same to the last bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from curation.errors import DataError, InputError
from curation.image_decoding import (
    ImageHeader,
    decode_damaged,
    exif_orientation,
    read_damaged_header,
    turned,
)
from curation.image_facts import THUMBNAIL_PIXELS
from curation.image_transform import ImageTransform
from curation.recipe import DaliSettings

if TYPE_CHECKING:
    import torch

_CPU_SLOTS = 4  # lite0 in bf16, two processes: ms per image 8.8 at 2, 7.3 at 4, 10.6 at 16
_GPU_SLOTS = 256
DEFAULT_MAX_PIXELS = 178_956_970  # where Pillow begins to warn of decompression bombs


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it lies in its shard."""

    row: int
    """What the caller knows it by; comes back with the result."""
    data: bytes


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """What became of one image."""

    row: int
    error: str | None = None
    """Why there are no pixels, or None where there are."""
    format: str | None = None
    """By content: ``jpeg``, ``png`` …; None if it is no image at all."""
    width: int | None = None
    """Pixels as encoded, before any EXIF rotation; known for every image with a header."""
    height: int | None = None
    corruption: str | None = None
    """Why Pillow refuses it, where the settings keep it all the same."""


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """A fixed number of slots, the first of them taken by images, in the order read."""

    images: tuple[LoadedImage, ...]
    """``images[i]`` is in slot ``i``; fewer than there are slots in the last batch."""
    pixels: "torch.Tensor"
    """``(batch_size, height, width, 3)`` uint8, RGB, on the loader's device: the model's
    input before it is normalised. Black where there is no image."""
    thumbnails: "torch.Tensor"
    """``(batch_size, 256, 256, 3)`` uint8, RGB, on the loader's device: the whole image,
    squashed; what :mod:`curation.image_facts` are computed from."""


@dataclass(frozen=True)
class LoaderSettings:
    """What every loader needs to be told."""

    batch_size: int | None = None
    """Slots of a batch. None is 4 on a CPU, whose caches larger batches overflow, and 256
    on a GPU."""
    device: str = "cpu"
    """Where batches go: ``cpu``, ``cuda`` or ``cuda:N``."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Width times height above which an image is refused, before and after resizing."""
    rotate_by_exif: bool = False
    """Turn images as their EXIF orientation says."""
    on_corruption: Literal["quarantine", "keep"] = "quarantine"
    """What becomes of images that Pillow refuses and nvImageCodec gives pixels for."""
    dali: DaliSettings = field(default_factory=DaliSettings)
    """For the loader ``dali`` alone."""

    def __post_init__(self) -> None:
        if self.slots < 1 or self.max_pixels < 1:
            raise InputError(
                "An image loader's batch_size and max_pixels must be at least 1; found "
                f"{self.slots} and {self.max_pixels}"
            )

    @property
    def slots(self) -> int:
        """Slots of a batch, with the default for the device filled in."""
        if self.batch_size is not None:
            return self.batch_size
        return _CPU_SLOTS if self.device == "cpu" else _GPU_SLOTS


class ImageLoader(ABC):
    """Decodes and resizes images for one model.

    Made once and used for many shards: what is expensive to build is built at the first
    call of :meth:`load` and kept.
    """

    name: ClassVar[str]

    def __init__(self, transform: ImageTransform, settings: LoaderSettings) -> None:
        self.transform = transform
        self.settings = settings

    @abstractmethod
    def load(self, images: Iterable[EncodedImage]) -> Iterator[ImageBatch]:
        """Load images, in order, in batches of ``settings.slots``.

        On a GPU, batches are complete when they are given, and are to be used on the
        default stream.

        Nothing that an image holds raises an error: every image comes back, with pixels
        or with the reason why not. The iterator reads ahead of the batch that it gives.
        """

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Do the block's work on a GPU in a stream of its own, and wait for it.

        A loader runs in a thread beside the model's. In the model's stream its copies
        would wait behind whole batches of arithmetic.
        """
        if self.settings.device == "cpu":
            yield
            return
        import torch

        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def handed_over(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Return a tensor made while :meth:`filling`, for use on the default stream."""
        if tensor.is_cuda:
            import torch

            # else its memory could be filled again while the model still reads it
            tensor.record_stream(torch.cuda.default_stream(tensor.device))
        return tensor

    @cached_property
    def _stream(self) -> "torch.cuda.Stream":
        import torch

        return torch.cuda.Stream(self.settings.device)  # type: ignore[no-untyped-call]

    def checked_header(self, header: ImageHeader) -> ImageHeader:
        """Return the header of an image that is small enough to be decoded.

        Raises:
            DataError: It has too many pixels, as encoded or after resizing.
        """
        limit = self.settings.max_pixels
        if header.width < 1 or header.height < 1:
            raise DataError(f"the image is {header.width} x {header.height} pixels")
        if header.width * header.height > limit:
            raise DataError(
                f"too many pixels: {header.width} x {header.height} is more than "
                f"max_pixels={limit}"
            )
        # a strip of 1 x 100,000 pixels is small, until its short side becomes 256
        place = self.transform.place(header.width, header.height)
        if place.width * place.height > limit:
            raise DataError(
                f"too long and thin: {header.width} x {header.height} would be resized to "
                f"{place.width} x {place.height}, more than max_pixels={limit}"
            )
        return header


class OneByOneLoader(ImageLoader):
    """A loader that handles each image by itself, on the CPU.

    A member says how one header is read, how one image is decoded, and how it is resized.
    """

    def load(self, images: Iterable[EncodedImage]) -> Iterator[ImageBatch]:
        for group in batched(images, self.settings.slots):
            pixels, thumbnails = self.empty_batch()
            loaded = [
                self.load_one(image, pixels[slot], thumbnails[slot])
                for slot, image in enumerate(group)
            ]
            with self.filling():
                pixels = pixels.to(self.settings.device)
                thumbnails = thumbnails.to(self.settings.device)
            yield ImageBatch(
                tuple(loaded), self.handed_over(pixels), self.handed_over(thumbnails)
            )

    def load_one(
        self, image: EncodedImage, pixels: "torch.Tensor", thumbnail: "torch.Tensor"
    ) -> LoadedImage:
        """Put one image's pixels in their slots, or say why not."""
        header = None
        try:
            header = self.read_header(image.data)
            decoded = self.decode(image.data, self.checked_header(header))
        except DataError as error:
            loaded = loaded_image(image.row, header, str(error))
            if self.settings.on_corruption == "quarantine":
                return loaded
            return self._load_damaged(loaded, image.data, pixels, thumbnail)
        self._put(decoded, image.data, pixels, thumbnail)
        return loaded_image(image.row, header)

    def _load_damaged(
        self,
        refused: LoadedImage,
        data: bytes,
        pixels: "torch.Tensor",
        thumbnail: "torch.Tensor",
    ) -> LoadedImage:
        try:
            header = self.checked_header(read_damaged_header(data))
            decoded = decode_damaged(data)
        except DataError:
            return refused
        self._put(decoded, data, pixels, thumbnail)
        loaded = loaded_image(refused.row, header)
        return replace(loaded, corruption=refused.error)

    def _put(
        self,
        decoded: np.ndarray,
        data: bytes,
        pixels: "torch.Tensor",
        thumbnail: "torch.Tensor",
    ) -> None:
        if self.settings.rotate_by_exif:
            decoded = turned(decoded, exif_orientation(data))
        self.resize(decoded, pixels, thumbnail)

    def empty_batch(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Make black pixels and thumbnails for one batch, in host memory."""
        import torch

        size, side = self.settings.slots, THUMBNAIL_PIXELS
        shape = (size, self.transform.height, self.transform.width, 3)
        pin = self.settings.device != "cpu"
        pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=pin)
        thumbnails = torch.zeros((size, side, side, 3), dtype=torch.uint8, pin_memory=pin)
        return pixels, thumbnails

    @abstractmethod
    def read_header(self, data: bytes) -> ImageHeader:
        """Find out what an image is; a DataError says why it is none."""

    @abstractmethod
    def decode(self, data: bytes, header: ImageHeader) -> np.ndarray:
        """Decode to ``(height, width, 3)`` uint8 RGB; a DataError says why not."""

    @abstractmethod
    def resize(
        self, image: np.ndarray, pixels: "torch.Tensor", thumbnail: "torch.Tensor"
    ) -> None:
        """Write the transformed image and its thumbnail, ``(rows, columns, 3)`` uint8."""


def loaded_image(
    row: int, header: ImageHeader | None, error: str | None = None
) -> LoadedImage:
    """Say what became of an image, with what its header told."""
    if header is None:
        return LoadedImage(row, error)
    return LoadedImage(row, error, header.format, header.width, header.height)


def batched(images: Iterable[EncodedImage], size: int) -> Iterator[Sequence[EncodedImage]]:
    """Cut a stream of images into lists of ``size``; the last may be shorter."""
    stream = iter(images)
    while group := list(islice(stream, size)):
        yield group
