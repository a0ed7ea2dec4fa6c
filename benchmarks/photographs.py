"""Photographs for benchmarks: from shards in a folder, or those that packages ship."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data" / "imagenet_samples"


def read_photographs(folder: Path | None) -> list[bytes]:
    """Read the images of every tar in a folder, in order.

    Args:
        folder: Where the shards are. None takes the 600 shared photographs where they
            are, else 96 crops of the photographs of scikit-image and scikit-learn.
    """
    folder = folder or (SHARED if SHARED.is_dir() else None)
    if folder is None:
        return list(packaged_photographs())
    return [data for tar in sorted(folder.rglob("*.tar")) for data in _images(tar)]


def packaged_photographs() -> Iterator[bytes]:
    """Crop, scale and encode what scikit-image and scikit-learn ship."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "chelsea", "coffee", "rocket")
    sources = [getattr(data, name)() for name in names] + load_sample_images().images
    for number in range(96):
        picture = Image.fromarray(sources[number % len(sources)])
        step = number // len(sources)
        box = (2 * step, step, picture.width - 3 * step, picture.height - step)
        buffer = io.BytesIO()
        picture.crop(box).save(buffer, "JPEG", quality=95 - step % 10)
        yield buffer.getvalue()


def _images(tar: Path) -> Iterator[bytes]:
    with tarfile.open(tar) as file:
        for member in file:
            if member.name.lower().endswith((".jpg", ".jpeg", ".png", ".webp")):
                reader = file.extractfile(member)
                assert reader is not None
                yield reader.read()
