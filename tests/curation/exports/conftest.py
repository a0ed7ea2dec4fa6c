"""Filtered shards with vectors, made by tarfile and NumPy."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.storage import LocalStorage
from curation.tables import FILTERED, embedding_column, write_table
from curation.testing.image_embedding_folders import (
    PER_SHARD,
    SHARDS,
    save_tars,
    vector,
)

WITHOUT = 23  # number of the sample that has no vector


@pytest.fixture
def filtered(tmp_path: Path) -> LocalStorage:
    """Make filtered shards, of which one sample has no vector."""
    save_tars(tmp_path / "filtered")
    storage = LocalStorage(tmp_path / "filtered")
    for shard in range(SHARDS):
        numbers = np.arange(PER_SHARD) + shard * PER_SHARD
        vectors = np.stack([vector(number) for number in numbers])
        table = pa.table(
            {
                "key": [f"{shard:04d}{row:03d}" for row in range(PER_SHARD)],
                "caption": [f"caption {number}" for number in numbers],
                "width": np.full(PER_SHARD, 24),
                "image_embedding": embedding_column(vectors, numbers != WITHOUT),
                "text_embedding": embedding_column(-vectors, numbers >= 0),
            }
        )
        path = f"{shard:04d}.parquet"
        write_table(storage, path, FILTERED, table, fingerprint="x")
    return storage
