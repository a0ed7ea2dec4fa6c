"""Folders as clip-retrieval writes them, made by NumPy and pyarrow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM = 8


def vectors(count: int, seed: int = 0, dtype: str = "float16") -> np.ndarray:
    """Give ``(count, DIM)`` random rows, none of them zero."""
    rows = np.random.default_rng(seed).standard_normal((count, DIM))
    return rows.astype(dtype)


def save_parts(
    folder: Path, rows: np.ndarray, sizes: Sequence[int], names: Sequence[str] | None = None
) -> Path:
    """Save rows as ``img_emb_0.npy``, ``img_emb_1.npy`` …, of the sizes given."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"{folder.name}_{part}" for part in range(len(sizes))]
    for name, part in zip(names, np.split(rows, np.cumsum(sizes)[:-1]), strict=True):
        np.save(folder / f"{name}.npy", part)
    return folder


def captions(count: int) -> list[str]:
    """Give texts that end in their row's number."""
    return [f"caption {row}" for row in range(count)]


def save_captions(
    folder: Path, texts: Sequence[str | None], sizes: Sequence[int], group: int = 7
) -> Path:
    """Save captions as ``metadata_0.parquet`` …, with other columns beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for part, size in enumerate(sizes):
        rows = texts[first : first + size]
        table = pa.table(
            {
                "image_path": [str(row) for row in range(size)],
                "caption": pa.array(rows, pa.string()),
                "similarity": [0.5] * size,
            }
        )
        pq.write_table(table, folder / f"metadata_{part}.parquet", row_group_size=group)
        first += size
    return folder
