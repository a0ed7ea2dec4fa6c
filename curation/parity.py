"""How near a loader comes to timm's own transform, measured on images of one's own.

A loader that misplaces pixels gives vectors that compare with each other and with nothing
else: no error, no NaN, only classifiers that are a little wrong. This is how it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curation.embedders.base import Embedder
from curation.errors import InputError
from curation.image_loaders.base import (
    EncodedImage,
    ImageBatch,
    ImageLoader,
    LoaderSettings,
)
from curation.image_loaders.pillow import PillowImageLoader

MEDIAN_COSINE = 0.9999
MIN_COSINE = 0.999
"""What a loader on a CPU must reach. A GPU's JPEG decoder differs by itself."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How two ways of loading the same images differ."""

    num_images: int
    """Those that both ways decode."""
    min_cosine: float
    """Of the embeddings of one image, over all images."""
    median_cosine: float
    mean_difference: float
    """Of pixel values, 0 to 255."""

    @property
    def is_good(self) -> bool:
        """Whether the loader reaches the bars of this module."""
        return self.min_cosine >= MIN_COSINE and self.median_cosine >= MEDIAN_COSINE


def measure_parity(
    images: Sequence[bytes], loader: ImageLoader, embedder: Embedder
) -> Parity:
    """Compare a loader with Pillow, which does what timm's transform does.

    Args:
        images: Encoded; some dozens are enough to see a misplaced pixel.
        loader: Made for ``embedder.transform`` and on its device.
        embedder: In which arithmetic doesn't matter: it is the same for both ways.

    Raises:
        InputError: None of the images can be decoded.
    """
    from torch.nn.functional import cosine_similarity

    reference = PillowImageLoader(
        loader.transform, replace(loader.settings, batch_size=loader.settings.slots)
    )
    cosines, differences = [], []
    for ours, theirs in zip(
        loader.load(_numbered(images)), reference.load(_numbered(images)), strict=True
    ):
        slots = _decoded_by_both(ours, theirs)
        left, right = (embedder.embed(batch.pixels) for batch in (ours, theirs))
        cosines += cosine_similarity(left.float(), right.float())[slots].tolist()
        difference = (ours.pixels.float() - theirs.pixels.float()).abs()
        differences += difference.mean(dim=(1, 2, 3))[slots].tolist()
    if not cosines:
        raise InputError("None of the images to compare loaders on can be decoded")
    return Parity(
        num_images=len(cosines),
        min_cosine=min(cosines),
        median_cosine=float(np.median(cosines)),
        mean_difference=float(np.mean(differences)),
    )


def stored_cosines(
    images: Sequence[bytes],
    vectors: np.ndarray,
    embedder: Embedder,
    settings: LoaderSettings,
) -> np.ndarray:
    """Compare vectors that were stored with what Pillow and timm's transform give now.

    Args:
        images: Encoded, those that the vectors are of.
        vectors: ``(N, dim)`` floating point, of unit length.
        embedder: That of the vectors, on the CPU.
        settings: Those that the images were loaded with.

    Returns:
        ``(N,)`` float32: the cosine of each pair; NaN where the image can't be decoded.
    """
    reference = PillowImageLoader(embedder.transform, replace(settings, device="cpu"))
    cosines = np.full(len(images), np.nan, np.float32)
    for batch in reference.load(_numbered(images)):
        found = embedder.embed(batch.pixels).float().numpy()
        for slot, image in enumerate(batch.images):
            if image.error is None:
                cosines[image.row] = found[slot] @ vectors[image.row].astype(np.float32)
    return cosines


def _numbered(images: Sequence[bytes]) -> list[EncodedImage]:
    return [EncodedImage(row, data) for row, data in enumerate(images)]


def _decoded_by_both(left: ImageBatch, right: ImageBatch) -> list[int]:
    pairs = zip(left.images, right.images, strict=True)
    return [i for i, (a, b) in enumerate(pairs) if a.error is None and b.error is None]
