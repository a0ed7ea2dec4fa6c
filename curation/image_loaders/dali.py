"""DALI decodes and resizes whole batches: on a GPU, or by the same graph on a CPU.

**What reaches DALI.** One image that DALI can't decode fails its whole batch, and one that
it can't even parse makes the next pipeline crash the process. So every image is looked at
before: what goes through the pipeline are JPEGs whose markers are in order
(:mod:`curation.image_decoding`) and whose pixels are not too many. Anything else is
decoded by itself on the CPU, in threads beside the pipeline, which also gives the reason
if it can't be. So a GPU, which forgives other damage than Pillow, never decides what is
good. If a batch fails all the same, the images that do it are found and decoded that way.

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curation.errors import DataError, InputError
from curation.image_decoding import (
    ImageHeader,
    decodes,
    exif_orientation,
    quiet_nvimgcodec,
    read_header,
)
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
from curation.quiet_libraries import quiet_libraries
from curation.recipe import DaliSettings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

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
        results: dict[int, LoadedImage] = {}
        pixels, thumbnails = self._empty_batch()
        headers = {slot: self._sift(image) for slot, image in enumerate(group)}
        singles = {
            slot: self._threads.submit(self._load_singly, group[slot])
            for slot, header in headers.items()
            if header is None
        }
        sifted = [
            _Sifted(slot, group[slot], header)
            for slot, header in headers.items()
            if header is not None
        ]
        for part in _within(self.settings.dali.pixels_at_once, sifted):
            sound, outputs = self._run_sound(part)
            if outputs is not None:
                slots = [item.slot for item in sound]
                pixels[slots], thumbnails[slots] = outputs
            done = {item.slot: item for item in sound}
            for item in part:
                if item.slot in done:
                    results[item.slot] = loaded_image(item.image.row, item.header)
                else:
                    single = self._threads.submit(self._load_singly, item.image)
                    singles[item.slot] = single
        if singles:
            slots = list(singles)
            loaded, *found = zip(*(one.result() for one in singles.values()), strict=True)
            pixels[slots], thumbnails[slots] = (_stacked(one, pixels) for one in found)
            results |= zip(slots, loaded, strict=True)
        return tuple(results[slot] for slot in headers), pixels, thumbnails

    def _sift(self, image: EncodedImage) -> ImageHeader | None:
        """Return the header of an image that DALI will decode, else None."""
        try:
            header = self.checked_header(read_header(image.data))
        except DataError:
            return None
        if header.codec != "nvimgcodec" or header.format != "jpeg":
            return None  # a GPU decodes no PNG: the threads may as well
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
        self, image: EncodedImage
    ) -> tuple[LoadedImage, "torch.Tensor", "torch.Tensor"]:
        import torch

        height, width = self.transform.height, self.transform.width
        pixels = torch.zeros((height, width, 3), dtype=torch.uint8)
        thumbnail = torch.zeros((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS, 3), dtype=torch.uint8)
        return self._one_by_one.load_one(image, pixels, thumbnail), pixels, thumbnail

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_num_threads(self.settings.dali), "image loader")

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
        with quiet_libraries():
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
        num_threads=_num_threads(settings.dali),
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
    quiet_nvimgcodec()
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


def _stacked(images: Sequence["torch.Tensor"], like: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.stack(tuple(images)).to(like.device)


def _num_threads(dali: DaliSettings) -> int:
    return dali.num_threads or len(os.sched_getaffinity(0))


def _device_id(device: str) -> int:
    return int(device.partition(":")[2] or 0)


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
