"""DALI decodes and resizes whole batches: on a GPU, or by the same graph on a CPU.

**What reaches DALI.** One image that DALI can't decode fails its whole batch, and one that
it can't even parse makes the next pipeline crash the process. So every image is looked at
before: nvImageCodec parses its header, its pixels are counted, its end must be there. What
is in order goes through the pipeline; anything else (cut short, or of a format that DALI
doesn't know) is decoded by itself on the CPU, which also gives the reason if it can't be.
If a batch fails all the same, the images that do it are found and decoded that way too.

**What comes out.** DALI's own ``resize_shorter`` and crop round sizes otherwise than
torchvision, and one of its passes rounds to whole numbers once where Pillow does it twice.
Here an image is resized across and then down, each pass to uint8, from exactly the region
that torchvision's crop would show: on photographs, cosine of embeddings >= .9999.

A GPU decodes JPEG with other arithmetic than a CPU (nvJPEG's own inverse transform and
chroma upsampling), so the same image has slightly different vectors on both. How
different has not been measured here: no GPU was to be had.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curation.errors import DataError, InputError
from curation.image_decoding import ImageHeader, decodes, exif_orientation, read_header
from curation.image_facts import THUMBNAIL_PIXELS
from curation.image_loaders.base import (
    EncodedImage,
    ImageBatch,
    ImageLoader,
    LoadedImage,
    LoaderSettings,
    batched,
    loaded_image,
)
from curation.image_loaders.nvimgcodec import NvimgcodecImageLoader
from curation.image_transform import ImageTransform
from curation.recipe import DaliSettings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TAIL_BYTES = 64  # files often have a few bytes after their end marker
_REACH = {"bilinear": 1, "bicubic": 2}  # pixels of Pillow's filters, at scale 1


@dataclass(frozen=True, slots=True)
class _Sifted:
    """An image that is safe to give to DALI."""

    slot: int
    image: EncodedImage
    header: ImageHeader


class DaliImageLoader(ImageLoader):
    """A pipeline, built at first use and kept for all shards after it."""

    name: ClassVar[str] = "dali"

    def __init__(self, transform: ImageTransform, settings: LoaderSettings) -> None:
        super().__init__(transform, settings)
        self._one_by_one = NvimgcodecImageLoader(transform, replace(settings, device="cpu"))

    def load(self, images: Iterable[EncodedImage]) -> Iterator[ImageBatch]:
        for group in batched(images, self.settings.slots):
            with self.filling():
                loaded, pixels, thumbnails = self._load_batch(group)
            yield ImageBatch(loaded, self.handed_over(pixels), self.handed_over(thumbnails))

    def _load_batch(
        self, group: Sequence[EncodedImage]
    ) -> tuple[tuple[LoadedImage, ...], "torch.Tensor", "torch.Tensor"]:
        results: list[LoadedImage | None] = [None] * len(group)
        pixels, thumbnails = self._empty_batch()
        sifted = []
        for slot, image in enumerate(group):
            header = self._sift(image)
            if header is not None:
                sifted.append(_Sifted(slot, image, header))
        for part in _within(self.settings.dali.pixels_at_once, sifted):
            part, outputs = self._run_sound(part)
            if outputs is None:
                continue
            slots = [item.slot for item in part]
            pixels[slots], thumbnails[slots] = outputs
            for item in part:
                results[item.slot] = loaded_image(item.image.row, item.header)
        rest = [slot for slot, result in enumerate(results) if result is None]
        if rest:
            loaded, pixels[rest], thumbnails[rest] = self._load_singly(
                [group[slot] for slot in rest]
            )
            for slot, image_result in zip(rest, loaded, strict=True):
                results[slot] = image_result
        found = tuple(result for result in results if result is not None)
        return found, pixels, thumbnails

    def _sift(self, image: EncodedImage) -> ImageHeader | None:
        """Return the header of an image that DALI will decode, else None."""
        try:
            header = self.checked_header(read_header(image.data))
        except DataError:
            return None
        if header.codec != "nvimgcodec" or not _is_complete(header.format, image.data):
            return None
        if self.settings.rotate_by_exif and exif_orientation(image.data) != 1:
            return None  # the regions below are those of the image as encoded
        return header

    def _run_sound(
        self, part: list[_Sifted]
    ) -> tuple[list[_Sifted], tuple["torch.Tensor", "torch.Tensor"] | None]:
        """Run what DALI can decode of some images; give that and the results.

        Its error does not say reliably which image it is about, and the good ones must
        come from the same arithmetic as always: so each is tried alone, and the pipeline
        run again without those that fail.
        """
        while part:
            try:
                return part, self._run(part)
            except RuntimeError as error:
                del self._pipeline  # it is of no more use, says DALI
                sound = [item for item in part if decodes(item.image.data)]
                log.warning(
                    "DALI failed a batch for %d of its %d images: %s",
                    len(part) - len(sound),
                    len(part),
                    _gist(error),
                )
                if len(sound) == len(part):
                    break
                part = sound
        return [], None

    def _load_singly(
        self, images: Sequence[EncodedImage]
    ) -> tuple[list[LoadedImage], "torch.Tensor", "torch.Tensor"]:
        import torch

        device = self.settings.device
        height, width = self.transform.height, self.transform.width
        side = THUMBNAIL_PIXELS
        pixels = torch.zeros((len(images), height, width, 3), dtype=torch.uint8)
        thumbnails = torch.zeros((len(images), side, side, 3), dtype=torch.uint8)
        loaded = [
            self._one_by_one.load_one(image, pixels[i], thumbnails[i])
            for i, image in enumerate(images)
        ]
        return loaded, pixels.to(device), thumbnails.to(device)

    def _empty_batch(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        size, side = self.settings.slots, THUMBNAIL_PIXELS
        shape = (size, self.transform.height, self.transform.width, 3)
        device = self.settings.device
        return (
            torch.zeros(shape, dtype=torch.uint8, device=device),
            torch.zeros((size, side, side, 3), dtype=torch.uint8, device=device),
        )

    @cached_property
    def _pipeline(self) -> Any:
        try:
            pipeline = build_pipeline(self.transform, self.settings)
            pipeline.build()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"DALI can't build its pipeline for {self.settings}: {error}"
            ) from error
        log.info("built a DALI pipeline on %s", self.settings.device)
        return pipeline

    def _run(self, part: Sequence[_Sifted]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Decode and resize images of one run; the results are DALI's own memory."""
        import torch
        from torch.utils.dlpack import from_dlpack

        regions = [region(self.transform, item.header) for item in part]
        inputs = {
            name: np.array([getattr(one, name) for one in regions], np.float32)
            for name in Region.__dataclass_fields__
        }
        encoded = [np.frombuffer(item.image.data, np.uint8) for item in part]
        outputs = self._pipeline.run(encoded=encoded, **inputs)
        if self.settings.device == "cpu":
            pixels, thumbnails = (torch.from_numpy(out.as_array()) for out in outputs)
        else:
            pixels, thumbnails = (from_dlpack(out.as_tensor()) for out in outputs)
        return pixels, thumbnails


@dataclass(frozen=True, slots=True)
class Region:
    """What DALI's passes are told of one image; all pairs are rows, columns."""

    across_start: tuple[float, float]
    """First pass: from which pixel of the image, in fractions of a pixel …"""
    across_end: tuple[float, float]
    """… to which one …"""
    across_size: tuple[float, float]
    """… and the size to make of it: as many rows as before, the window's columns."""
    down_start: tuple[float, float]
    """Second pass: from which pixel of the first pass's result …"""
    down_end: tuple[float, float]
    down_size: tuple[float, float]
    """… and the size to make of it: what of the window the image covers."""
    window_start: tuple[float, float]
    """Where the window begins in that; negative where it begins before it."""
    squash_size: tuple[float, float]
    """The thumbnail's first pass: as many rows as the image, 256 columns."""


def region(transform: ImageTransform, header: ImageHeader) -> Region:
    """Compute the regions of an image that end in the transform's window."""
    place = transform.place(header.width, header.height)
    top, left = max(place.top, 0), max(place.left, 0)
    rows = min(place.top + transform.height, place.height) - top
    columns = min(place.left + transform.width, place.width) - left
    down, right = header.height / place.height, header.width / place.width
    # the rows that the second pass reads: its filter reaches past the region's edge
    reach = _REACH[transform.interpolation] * max(down, 1) + 1
    first = max(0, int(top * down - reach))
    last = min(header.height, int((top + rows) * down + reach) + 1)
    return Region(
        across_start=(first, left * right),
        across_end=(last, (left + columns) * right),
        across_size=(last - first, columns),
        down_start=(top * down - first, 0),
        down_end=((top + rows) * down - first, columns),
        down_size=(rows, columns),
        window_start=(min(place.top, 0), min(place.left, 0)),
        squash_size=(header.height, THUMBNAIL_PIXELS),
    )


def build_pipeline(transform: ImageTransform, settings: LoaderSettings) -> Any:
    """Describe the pipeline; nothing is allocated before its ``build()``.

    Inputs are ``encoded`` and the fields of :class:`Region`; outputs are pixels and
    thumbnails, ``(N, rows, columns, 3)`` uint8 on the device.
    """
    toolkit = _toolkit()
    fn, types = toolkit.fn, toolkit.types
    on_gpu = settings.device != "cpu"
    pipeline = toolkit.Pipeline(
        batch_size=settings.slots,
        num_threads=settings.dali.num_threads or len(os.sched_getaffinity(0)),
        device_id=_device_id(settings.device) if on_gpu else None,
        prefetch_queue_depth=1,  # reading ahead is the caller's business: see embedding.py
    )
    filters = {"bicubic": types.INTERP_CUBIC, "bilinear": types.INTERP_TRIANGULAR}
    exact = {"antialias": True, "subpixel_scale": False, "dtype": types.UINT8}
    with pipeline:
        encoded = fn.external_source(name="encoded", ndim=1, dtype=types.UINT8)
        given = {
            name: fn.external_source(name=name, ndim=1, dtype=types.FLOAT)
            for name in Region.__dataclass_fields__
        }
        image = fn.decoders.image(
            encoded,
            device="mixed" if on_gpu else "cpu",
            output_type=types.RGB,
            adjust_orientation=False,
            jpeg_fancy_upsampling=True,  # as libjpeg, and so Pillow, does
            **(_gpu_decoding(settings.dali) if on_gpu else {}),
        )
        across = fn.resize(
            image,
            size=given["across_size"],
            roi_start=given["across_start"],
            roi_end=given["across_end"],
            interp_type=filters[transform.interpolation],
            **exact,
        )
        visible = fn.resize(
            across,
            size=given["down_size"],
            roi_start=given["down_start"],
            roi_end=given["down_end"],
            interp_type=filters[transform.interpolation],
            **exact,
        )
        window = fn.slice(
            visible,
            start=fn.cast(given["window_start"], dtype=types.INT32),
            shape=(transform.height, transform.width),
            axes=(0, 1),
            out_of_bounds_policy="pad",
            fill_values=transform.fill,
        )
        triangle = {"interp_type": types.INTERP_TRIANGULAR, **exact}
        squashed = fn.resize(image, size=given["squash_size"], **triangle)
        side = THUMBNAIL_PIXELS
        thumbnail = fn.resize(squashed, size=(side, side), **triangle)
        pipeline.set_outputs(window, thumbnail)
    return pipeline


def _toolkit() -> Any:
    try:
        return import_module("nvidia.dali")
    except ImportError as error:
        raise InputError(
            f"DALI can't be imported ({error}); install nvidia-dali-cuda120, or use the "
            "image loader 'nvimgcodec' or 'pillow'"
        ) from error


def _gpu_decoding(dali: DaliSettings) -> dict[str, Any]:
    return {
        "hw_decoder_load": dali.hardware_decoder_load,
        "device_memory_padding": dali.device_memory_padding,
        "host_memory_padding": dali.host_memory_padding,
    }


def _device_id(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _is_complete(format: str, data: bytes) -> bool:
    """Tell whether a file has its end; what has none is decoded by itself."""
    tail = data[-_TAIL_BYTES:]
    if format == "jpeg":
        return b"\xff\xd9" in tail
    if format == "png":
        return b"IEND" in tail
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")  # webp: RIFF's size


def _within(limit: int, items: Iterable[_Sifted]) -> Iterator[list[_Sifted]]:
    """Cut a list where its images' pixels add up to more than ``limit``."""
    part: list[_Sifted] = []
    pixels = 0
    for item in items:
        size = item.header.width * item.header.height
        if part and pixels + size > limit:
            yield part
            part, pixels = [], 0
        part.append(item)
        pixels += size
    if part:
        yield part


def _gist(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "sample #" in line]
    return (named or lines or [type(error).__name__])[0].strip()
