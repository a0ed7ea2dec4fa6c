"""Exported vectors, read back by NumPy, pandas' reader and the training loaders."""

import itertools
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
    for name in ("other-0001.parquet", "other-0001.tar"):
        filtered.write(name, b"")
    with pytest.raises(InputError, match="same number"):
        export_vectors(filtered, filtered)


def test_shards_of_several_folders_may_have_the_same_numbers(
    two_inputs: LocalStorage, tmp_path: Path
) -> None:
    report = export_vectors(two_inputs, two_inputs)
    assert report.paths == (
        "a/img_emb_0000.npy", "a/img_emb_0001.npy",
        "b/c/img_emb_0000.npy", "b/c/img_emb_0001.npy", "b/c/img_emb_0002.npy",
    )  # fmt: skip
    urls = [two_inputs.url, [f"{two_inputs.url}/{{a/000{{0,1}},b/c/000{{0..2}}}}.tar"]]
    for tars, embeddings in itertools.product(urls, (None, two_inputs.url)):
        if embeddings is None and tars is not two_inputs.url:
            continue  # vectors are looked for beside the first tar
        loader = create_image_embedding_dataloader(
            tars, 0, 100, embeddings, extra_keys=["__key__"], shuffle_shards=False
        )
        images, emb, keys = next(iter(loader))
        assert len(images) == 2 * 20 + 3 * 20
        for number, key in zip(emb[:, 0].int().tolist(), keys, strict=True):
            folder = 0 if key.startswith("a") else 1
            assert number == 60 * folder + 20 * int(key[1:5]) + int(key[5:])
    output = LocalStorage(tmp_path / "clip")
    export_clip_retrieval(two_inputs, output)
    reader = get_reader(True, f"{output.url}/img_emb", f"{output.url}/metadata")
    assert reader.count == 100  # type: ignore[union-attr]


def test_one_file_for_two_tars_of_a_number_is_refused(
    two_inputs: LocalStorage, tmp_path: Path
) -> None:
    export_vectors(two_inputs, two_inputs)
    (tmp_path / "emb").mkdir()
    for number in range(3):
        name = f"img_emb_{number:04d}.npy"
        (two_inputs.root / "b" / "c" / name).rename(tmp_path / "emb" / name)
    with pytest.raises(InputError, match="put the vectors of each into a sub-folder"):
        create_image_embedding_dataloader(two_inputs.url, 0, 9, f"{tmp_path}/emb")
