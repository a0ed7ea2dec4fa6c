"""What every embedder does: batches of pixels in, one vector of unit length per image out.

Write one by subclassing :class:`Embedder`: say which transform your model wants, how wide
its vectors are, what makes it what it is, and compute. Decoding, quarantine, batching,
running out of memory and storing are not your business.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curation.cpu_arithmetic import side_by_side
from curation.errors import InputError
from curation.fingerprint import Json, fingerprint
from curation.image_transform import ImageTransform

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CPU_PASS = 4
"""Images of a forward pass on a CPU, whose caches larger ones overflow."""


class Embedder(ABC):
    """Turns pixels into vectors.

    Making one loads nothing, so that it can be sent to another process; what is expensive
    is loaded at first use and kept.
    """

    _images_per_pass: int | None = None
    """How many images fit the device at once; None until it was found to matter."""
    _is_loaded: bool = False
    """Whether anything was computed yet."""

    @property
    @abstractmethod
    def transform(self) -> ImageTransform:
        """What the model wants done to its images."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where the model is, and pixels are wanted: ``cpu``, ``cuda`` or ``cuda:N``."""

    @abstractmethod
    def on(self, device: str) -> "Embedder":
        """Make the same embedder for another device, with nothing loaded."""

    @abstractmethod
    def encoder(self) -> dict[str, Json]:
        """Say all that decides what the vectors are: model, weights' hash, transform …

        Stored with every table of vectors. Batch size and device are no part of it.
        """

    def known_encoder(self) -> dict[str, Json]:
        """Say as much of :meth:`encoder` as is known without fetching any weights."""
        return self.encoder()

    def check(self) -> None:
        """Find what is wrong with the settings or the weights, before anything is loaded.

        Raises:
            InputError, NotFoundError, DataError: The model is unknown or gives no vectors;
                weights are absent, damaged, of another model, or can't be had.
        """
        self.known_encoder()

    @abstractmethod
    def embed_pixels(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Compute the vectors of one batch.

        Args:
            pixels: ``(N, height, width, 3)`` uint8 on the embedder's device, as
                :attr:`transform` places them, not normalised yet. ``N`` is the same for
                every batch unless memory runs out: 4 on a CPU, where several threads of
                one process call this at once, apart from the first time.

        Returns:
            ``(N, dim)`` floating point on the same device, of any length but zero.
        """

    def fingerprint(self) -> str:
        """Hash :meth:`encoder`: vectors compare only if this is equal."""
        return fingerprint(self.encoder())

    def embed(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Give the ``(N, dim)`` float16 vectors of a batch, each of length 1.

        On a CPU a vector's bits hang on its image alone: not on the number of threads, nor
        on how many images a batch has, nor on which. Where the device runs out of memory,
        the batch is computed in halves from then on.

        Raises:
            InputError: Not even one image fits.
        """
        import torch

        on_cpu = pixels.device.type == "cpu"
        while True:
            size = self._images_per_pass or (CPU_PASS if on_cpu else len(pixels))
            parts = torch.split(pixels, size)
            try:
                return torch.cat(self._by_threads(parts) if on_cpu else self._units(parts))
            except torch.OutOfMemoryError as error:
                self._images_per_pass = _halved(size, self.device, error)

    def _units(self, parts: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
        return [self._unit(part) for part in parts]

    def _by_threads(self, parts: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
        """Compute parts side by side, all of one shape: the last is filled up."""
        size = len(parts[-1])
        parts = [*parts[:-1], _filled(parts[-1], len(parts[0]))]
        first, rest = ([], parts) if self._is_loaded else (parts[:1], parts[1:])
        found = [*side_by_side(self._unit, first), *side_by_side(self._unit, rest)]
        self._is_loaded = True
        return [*found[:-1], found[-1][:size]]

    def _unit(self, pixels: "torch.Tensor") -> "torch.Tensor":
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            # in float32: the squares of 1,000 numbers can't be added in half precision
            return normalize(self.embed_pixels(pixels).float(), dim=1).half()


def _filled(pixels: "torch.Tensor", size: int) -> "torch.Tensor":
    if len(pixels) == size:
        return pixels
    filled = pixels.new_zeros((size, *pixels.shape[1:]))
    filled[: len(pixels)] = pixels
    return filled


def _halved(size: int, device: str, error: Exception) -> int:
    import torch

    if size == 1:
        raise InputError(
            f"{device} has too little memory for one image of this model; use a smaller "
            "model, a lower precision, or free the memory that other programs hold"
        ) from error
    torch.cuda.empty_cache()
    log.warning("%s ran out of memory; %d images at a time now", device, size // 2)
    return size // 2
