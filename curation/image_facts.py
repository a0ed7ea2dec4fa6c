"""What an image is like, whatever the model: sharpness, brightness, entropy.

All three are measured on one thumbnail: the whole image squashed to 256 x 256 pixels with
an antialiasing triangle filter, in gray. So they compare across images of every size, cost
the same for each, and don't depend on the encoder. They are columns of the embeddings
table because decoding is the expensive part, and it is done once.
"""

from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

THUMBNAIL_PIXELS = 256  # width and height of a thumbnail

_RED, _GREEN, _BLUE = 19595, 38470, 7471  # .299, .587 and .114 times 2^16

FACTS = ("sharpness", "brightness", "entropy")
"""The columns of :func:`measure_images`, in order."""


def measure_images(thumbnails: "torch.Tensor") -> "torch.Tensor":
    """Measure a batch of thumbnails, on the device that they are on.

    Args:
        thumbnails: ``(N, 256, 256, 3)`` uint8, RGB.

    Returns:
        ``(N, 3)`` float32: sharpness, brightness and entropy of each, see the functions
        of those names.
    """
    import torch

    # a CPU's caches hold one image's intermediates, not a batch's: twice as fast
    one_by_one = thumbnails.device.type == "cpu"
    parts = torch.split(thumbnails, 1) if one_by_one else (thumbnails,)
    return torch.cat([_measured(part) for part in parts])


def _measured(thumbnails: "torch.Tensor") -> "torch.Tensor":
    import torch

    gray = to_gray(thumbnails)
    columns = [sharpness(gray), brightness(gray), entropy(gray)]
    return torch.stack(columns, dim=1)


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


def perceptual_hash(thumbnail: "np.ndarray") -> bytes:
    """Hash an image so that copies that look alike differ in few of 256 bits.

    Args:
        thumbnail: ``(256, 256, 3)`` uint8, RGB.

    Returns:
        32 bytes; two images are likely copies if at most 31 bits differ.

    Raises:
        InputError: The package ``pdqhash`` is not installed.

    Source: PDQ, facebook/ThreatExchange, hashing/hashing.pdf; here of the thumbnail.
    """
    import numpy as np

    from curation.errors import InputError

    try:
        import pdqhash
    except ImportError as error:
        raise InputError(
            "Perceptual hashes were asked for, and the package pdqhash is not installed; "
            "install it, or turn them off"
        ) from error
    bits, _quality = pdqhash.compute(thumbnail)
    return np.packbits(bits.astype(np.uint8)).tobytes()
