"""What an image is like, whatever the model: sharpness, brightness, entropy, its hash.

All are measured on one thumbnail: the whole image squashed to 256 x 256 pixels with
an antialiasing triangle filter, in gray. So they compare across images of every size, cost
the same for each, and don't depend on the encoder. They are columns of the embeddings
table because decoding is the expensive part, and it is done once.
"""

import hashlib
from functools import cache
from math import log
from typing import TYPE_CHECKING

from curation.cpu_arithmetic import side_by_side

if TYPE_CHECKING:
    import numpy as np
    import torch

THUMBNAIL_PIXELS = 256  # width and height of a thumbnail

_RED, _GREEN, _BLUE = 19595, 38470, 7471  # .299, .587 and .114 times 2^16

FACTS = ("sharpness", "brightness", "entropy")
"""The columns of :func:`measure_images`, in order."""

MIN_HASH_QUALITY = 50
"""PDQ's quality, 0 to 100, from which a hash tells images apart, by its authors' advice."""


def measure_images(thumbnails: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Measure a batch of thumbnails, on the device that they are on.

    Args:
        thumbnails: ``(N, 256, 256, 3)`` uint8, RGB.

    Returns:
        ``(N, 3)`` float32: sharpness, brightness and entropy of each; and ``(N, 32)``
        uint8, perceptual hashes. See the functions of those names.
    """
    import torch

    if thumbnails.device.type != "cpu":
        return _measured(thumbnails)
    # a CPU's caches hold one image's intermediates, not a batch's: twice as fast
    facts, hashes = zip(*side_by_side(_measured, torch.split(thumbnails, 1)), strict=True)
    return torch.cat(facts), torch.cat(hashes)


def _measured(thumbnails: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
    import torch

    gray = to_gray(thumbnails)
    facts = torch.stack([measure(gray) for measure in _MEASURES], dim=1)
    return facts, perceptual_hashes(gray)


def pixel_sha256(thumbnail: "np.ndarray", width: int, height: int) -> str:
    """Hash what an image shows, so that files of the same pixels have the same hash.

    Only of images that one loader decoded on one kind of device: others round otherwise.

    Args:
        thumbnail: ``(256, 256, 3)`` uint8, RGB.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256(f"{width} {height} ".encode())
    digest.update(thumbnail.tobytes())
    return digest.hexdigest()


def to_gray(images: "torch.Tensor") -> "torch.Tensor":
    """Give the luma of ``(N, H, W, 3)`` uint8 RGB as ``(N, H, W)`` int16, 0 to 255.

    Source: ITU-R BT.601 weights, rounded as Pillow's ``convert("L")`` does.
    """
    import torch

    weighted = images[..., 0].to(torch.int32) * _RED
    weighted += images[..., 1].to(torch.int32) * _GREEN
    weighted += images[..., 2].to(torch.int32) * _BLUE
    return ((weighted + 0x8000) >> 16).to(torch.int16)


def sharpness(gray: "torch.Tensor") -> "torch.Tensor":
    """Measure how much fine detail images have: the variance of their Laplacian.

    0 is a plain surface; below about 100 a photograph looks blurred.

    Args:
        gray: ``(N, H, W)`` int16, 0 to 255.

    Returns:
        ``(N,)`` float32, at least 0; the border of one pixel is left out.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (ICPR 2000),
    with the 3 x 3 kernel of OpenCV's ``Laplacian(ksize=1)``.
    """
    inner = gray[:, 1:-1, 1:-1]
    sides = gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] + gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1]
    laplacian = (sides - 4 * inner).float()
    return laplacian.var(dim=(1, 2), correction=0)


def brightness(gray: "torch.Tensor") -> "torch.Tensor":
    """Give the mean of ``(N, H, W)`` gray images as ``(N,)`` float32 in [0, 1]."""
    return gray.float().mean(dim=(1, 2)) / 255


def entropy(gray: "torch.Tensor") -> "torch.Tensor":
    """Measure how many tones images have: the entropy of their histogram.

    Args:
        gray: ``(N, H, W)`` int16, 0 to 255.

    Returns:
        ``(N,)`` float32 in bits: 0 for one tone, 8 for 256 equally frequent ones.

    Source: Shannon (1948); the measure of scikit-image's ``shannon_entropy``.
    """
    import torch

    count, pixels = len(gray), gray[0].numel() if len(gray) else 1
    offsets = 256 * torch.arange(count, dtype=torch.int32, device=gray.device)
    tones = gray.flatten(1) + offsets[:, None]
    histogram = torch.bincount(tones.flatten(), minlength=256 * count)
    share = histogram.view(count, 256).float() / pixels
    nats: torch.Tensor = torch.special.entr(share).sum(dim=1)
    return nats / log(2)


_MEASURES = (sharpness, brightness, entropy)


def perceptual_hashes(gray: "torch.Tensor") -> "torch.Tensor":
    """Hash images so that copies that look alike differ in few of 256 bits.

    These are PDQ's bits and their order, of the thumbnail, in a few operations on whole
    batches. Two images are likely copies if at most 31 bits differ.

    Args:
        gray: ``(N, 256, 256)`` int16, 0 to 255.

    Returns:
        ``(N, 32)`` uint8; all zero, which no hash is, for an image with too few features
        to be told from others, such as a plain surface.

    Source: PDQ, facebook/ThreatExchange, hashing/hashing.pdf: two passes of a box filter
    along rows and columns, 64 x 64 samples, the lowest 16 x 16 frequencies but the
    constant one, each compared with their median; and its measure of quality.
    """
    import torch

    small = _sampled(_sampled(gray).transpose(1, 2)).transpose(1, 2).float() / 16
    waves = torch.from_numpy(_cosines()).to(gray.device)
    frequencies = (waves @ small @ waves.T).flatten(1)
    bits = frequencies > frequencies.median(dim=1, keepdim=True).values
    bits &= (_quality(small) >= MIN_HASH_QUALITY)[:, None]
    places = 1 << torch.arange(8, dtype=torch.uint8, device=gray.device)
    # PDQ writes the last bit first; and in a byte, the first is the highest
    packed = (bits.view(-1, 32, 8) * places).sum(dim=2, dtype=torch.uint8)
    return packed.flip(1)


def _sampled(gray: "torch.Tensor") -> "torch.Tensor":
    """Filter and sample rows: four times what PDQ's two passes give for every fourth."""
    import torch

    padded = torch.cat([gray, gray[:, -1:]], dim=1)
    return padded[:, 2:-1:4] + 2 * padded[:, 3:-1:4] + padded[:, 4::4]


@cache
def _cosines() -> "np.ndarray":
    """Give the DCT's rows 1 to 16 of 64: ``(16, 64)`` float32."""
    import numpy as np

    angle = np.outer(np.arange(1, 17), 2 * np.arange(64) + 1) * np.pi / 128
    rows: np.ndarray = (np.sqrt(2 / 64) * np.cos(angle)).astype(np.float32)
    return rows


def _quality(small: "torch.Tensor") -> "torch.Tensor":
    """Sum up the steps between neighbours: PDQ's quality, before it is cut at 100."""
    steps = [
        (small.diff(dim=dim) * (100 / 255)).trunc().abs().sum(dim=(1, 2)) for dim in (1, 2)
    ]
    return (steps[0] + steps[1]) // 90
