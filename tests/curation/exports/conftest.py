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
    picture,
    save_tars,
    vector,
)
from curation.testing.image_shards import make_tar

WITHOUT = 23  # number of the sample that has no vector


@pytest.fixture
def two_inputs(tmp_path: Path) -> LocalStorage:
    """Make filtered shards of two inputs, whose numbers are the same."""
    storage = LocalStorage(tmp_path / "two")
    for place, (folder, letter, shards) in enumerate([("a", "a", 2), ("b/c", "b", 3)]):
        for shard in range(shards):
            keys = [f"{letter}{shard:04d}{row:03d}" for row in range(PER_SHARD)]
            numbers = np.arange(PER_SHARD) + shard * PER_SHARD + 60 * place
            members = [(f"{key}.jpg", picture(0)) for key in keys]
            storage.write(f"{folder}/{shard:04d}.tar", make_tar(members))
            vectors = np.stack([vector(number) for number in numbers])
            everywhere = np.ones(PER_SHARD, bool)
            embeddings = embedding_column(vectors, everywhere)
            table = pa.table({"key": keys, "image_embedding": embeddings})
            path = f"{folder}/{shard:04d}.parquet"
            write_table(storage, path, FILTERED, table, fingerprint="x")
    return storage


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
