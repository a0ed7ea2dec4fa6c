"""Exported vectors, read back by NumPy, pandas' reader and the training loaders."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import InputError
from curation.exports import export_clip_retrieval, export_vectors
from curation.storage import LocalStorage
from curation.tables import FILTERED, write_table
from curation.testing.image_embedding_folders import DIM, PER_SHARD, SHARDS, vector
from curation.training import create_image_embedding_dataloader, get_reader
from tests.curation.exports.conftest import WITHOUT

EVERY = range(SHARDS * PER_SHARD)


def test_every_shard_gets_a_file_in_the_order_of_its_samples(
    filtered: LocalStorage,
) -> None:
    told: list[tuple[str, int]] = []
    report = export_vectors(filtered, filtered, lambda *shard: told.append(shard))
    assert told == [("0000", 20), ("0001", 20), ("0002", 20)]
    assert report.paths == ("img_emb_0000.npy", "img_emb_0001.npy", "img_emb_0002.npy")
    assert (report.num_rows, report.num_missing) == (60, 1)
    rows = np.concatenate([np.load(filtered.root / path) for path in report.paths])
    assert rows.dtype == np.float16
    for number in EVERY:
        expected = np.zeros(DIM) if number == WITHOUT else vector(number)
        assert np.array_equal(rows[number], expected)
    loader = create_image_embedding_dataloader(filtered.url, 0, 60, missing="skip")
    assert loader.dataset.num_skipped == 1
    images, emb = next(iter(loader))
    assert len(images) == 59
    assert sorted(emb[:, 0].int().tolist()) == [n for n in EVERY if n != WITHOUT]


def test_clip_retrievals_folders_train_a_prior(
    filtered: LocalStorage, tmp_path: Path
) -> None:
    output = LocalStorage(tmp_path / "clip")
    report = export_clip_retrieval(filtered, output)
    assert (report.num_rows, report.num_missing) == (60, 1)
    kept = [number for number in EVERY if number != WITHOUT]
    reader = get_reader(True, f"{output.url}/img_emb", f"{output.url}/metadata")
    assert reader.count == 59  # type: ignore[union-attr]
    assert reader.read_captions(0, 59) == [  # type: ignore[union-attr]
        f"caption {number}" for number in kept
    ]
    text = [np.load(tmp_path / "clip" / f"text_emb/text_emb_{p}.npy") for p in range(3)]
    expected = -np.stack([vector(number) for number in kept])
    assert np.array_equal(np.concatenate(text), expected)
    table = pq.read_table(tmp_path / "clip" / "metadata" / "metadata_1.parquet")
    assert table.column_names == ["image_path", "caption", "width"]
    assert table["image_path"][2:4].to_pylist() == ["0001002", "0001004"]


def test_what_can_not_be_exported_is_refused(
    filtered: LocalStorage, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no filtered shards"):
        export_vectors(LocalStorage(tmp_path / "nothing"), filtered)
    table = pa.table({"key": ["0000000"]})
    write_table(filtered, "0001.parquet", FILTERED, table, fingerprint="x")
    with pytest.raises(InputError, match=r"0001\.parquet: there is no column"):
        export_vectors(filtered, filtered)
    for name in ("more/0001.parquet", "more/0001.tar"):
        filtered.write(name, b"")
    with pytest.raises(InputError, match="same number"):
        export_clip_retrieval(filtered, filtered)
