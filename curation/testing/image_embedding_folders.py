"""Shards and folders of vectors as a decoder is trained from, made by tarfile and NumPy."""

import io
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from curation.testing.image_shards import make_tar

DIM = 8
SHARDS = 3
PER_SHARD = 20


def vector(number: int) -> np.ndarray:
    """Give a sample's vector; its first number is the sample's."""
    rest = np.random.default_rng(number).standard_normal(DIM - 1)
    return np.concatenate([[number], rest]).astype(np.float16)


@lru_cache
def picture(number: int) -> bytes:
    """Give a sample's JPEG, of 24 x 16 pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 6, 3), np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).resize((24, 16)).save(stored, "JPEG")
    return stored.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """Write an array as NumPy does."""
    stored = io.BytesIO()
    np.save(stored, array)
    return stored.getvalue()


def save_tars(
    folder: Path,
    *,
    name: str = "{:04d}.tar",
    with_npy: tuple[int, ...] | None = None,
    broken: Mapping[int, Mapping[str, bytes | None]] | None = None,
) -> Path:
    """Save shards with keys of 4 digits for the shard and 3 for the row.

    Args:
        folder: Where to.
        name: Of the tars.
        with_npy: Shape of an ``.npy`` to put beside each image.
        broken: By sample: components to replace, or to leave out where None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        members: list[tuple[str, bytes]] = []
        for row in range(PER_SHARD):
            number, key = shard * PER_SHARD + row, f"{shard:04d}{row:03d}"
            parts: dict[str, bytes | None] = {
                "jpg": picture(number),
                "txt": f"caption of {key}".encode(),
                "json": json.dumps({"number": number}).encode(),
                "cls": str(row).encode(),
            }
            if with_npy:
                parts["npy"] = npy_bytes(vector(number).reshape(with_npy))
            parts |= (broken or {}).get(number, {})
            members += [
                (f"{key}.{e}", data) for e, data in parts.items() if data is not None
            ]
        (folder / name.format(shard)).write_bytes(make_tar(members))
    return folder


def save_folder(folder: Path, *, name: str = "img_emb_{:d}.npy") -> Path:
    """Save the vectors of every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        rows = [vector(shard * PER_SHARD + row) for row in range(PER_SHARD)]
        np.save(folder / name.format(shard), np.stack(rows))
    return folder
