"""What every embedder does: batches of pixels in, one vector of unit length per image out.

Write one by subclassing :class:`Embedder`: say which transform your model wants, how wide
its vectors are, what makes it what it is, and compute. Decoding, quarantine, batching,
running out of memory and storing are not your business.
"""

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from curation.errors import InputError
from curation.fingerprint import Json, fingerprint
from curation.image_transform import ImageTransform

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class Embedder(ABC):
    """Turns pixels into vectors.

    Making one loads nothing, so that it can be sent to another process; what is expensive
    is loaded at first use and kept.
    """

    _images_per_pass: int | None = None
    """How many images fit the device at once; None until it was found to matter."""

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
                every batch unless memory runs out.

        Returns:
            ``(N, dim)`` floating point on the same device, of any length but zero.
        """

    def fingerprint(self) -> str:
        """Hash :meth:`encoder`: vectors compare only if this is equal."""
        return fingerprint(self.encoder())

    def embed(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Give the ``(N, dim)`` float16 vectors of a batch, each of length 1.

        Where the device runs out of memory, the batch is computed in halves from then on.

        Raises:
            InputError: Not even one image fits.
        """
        import torch

        while True:
            size = self._images_per_pass or len(pixels)
            try:
                parts = [self._unit(part) for part in torch.split(pixels, size)]
            except torch.OutOfMemoryError as error:
                self._images_per_pass = _halved(size, self.device, error)
            else:
                return torch.cat(parts)

    def _unit(self, pixels: "torch.Tensor") -> "torch.Tensor":
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            # in float32: the squares of 1,000 numbers can't be added in half precision
            return normalize(self.embed_pixels(pixels).float(), dim=1).half()


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
