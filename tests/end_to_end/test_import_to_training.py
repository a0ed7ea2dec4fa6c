"""Image files become a training set: import, run, export, and load what a trainer reads."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation import ImageTextPairDataset
from curation.storage import LocalStorage
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_table
from curation.testing.readers import read_with_webdataset
from curation.training import ImageEmbeddingDataset
from jobs.cli import main
from tests.conftest import ROOT

RECIPE = """\
name: imported
source: raw
output: curated
imports:
  images:
    mine: {list: pictures/list.csv, samples_per_shard: 5}
encoder: {precision: fp32}
filter: caption_words >= 2 and metadata.kind == "photograph"
machine: {device: cpu, workers: 1}
"""

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "camera", "brick")
PER_NAME = 2


def curate(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save photographs under names that no tar would like, and curate them."""
    from skimage import data

    rows = ["path,caption,kind"]
    for number, name in enumerate(NAMES * PER_NAME):
        picture = Image.fromarray(getattr(data, name)()).convert("RGB").resize((96, 96))
        path = f"{name}, no. {number}.v1.jpg"
        (tmp_path / "pictures").mkdir(exist_ok=True)
        picture.rotate(90 * (number // len(NAMES))).save(tmp_path / "pictures" / path)
        kind = "photograph" if name != "brick" else "texture"
        rows.append(f'"{path}","a picture\nof {name}",{kind}')
    (tmp_path / "pictures" / "list.csv").write_text("\n".join(rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    curate("run", "--recipe", tmp_path / "recipe.yaml")
    return tmp_path


def test_files_become_a_training_set_without_a_byte_changed(folder: Path) -> None:
    recipe = ("--recipe", folder / "recipe.yaml")
    shards = LocalStorage(folder / "curated" / "filtered" / "imported")
    for layout in ("npy", "clip-retrieval", "nemo"):
        curate("export", layout, folder / layout, *recipe)

    originals = {
        f"of {name}": sorted(
            file.read_bytes() for file in (folder / "pictures").glob(f"{name}, no. *")
        )
        for name in NAMES
        if name != "brick"
    }
    kept: dict[str, list[bytes]] = {}
    for tar in sorted(shards.root.rglob("*.tar")):
        for files in read_with_webdataset(tar).values():
            kept.setdefault(files["txt"].decode().split("\n")[1], []).append(files["jpg"])
    assert {caption: sorted(images) for caption, images in kept.items()} == originals

    vectors, keys = _stored(shards)
    pixels = [
        np.asarray(Image.open(io.BytesIO(files["jpg"]))).tobytes()
        for tar in sorted(shards.root.rglob("*.tar"))
        for files in read_with_webdataset(tar).values()
    ]
    dataset = ImageEmbeddingDataset(
        shards.url, embedding_folder_url=str(folder / "npy"), img_preproc=np.asarray
    )
    loaded = {image.tobytes(): emb.tolist() for image, emb in dataset}
    assert loaded == dict(zip(pixels, vectors.tolist(), strict=True))

    frame = ImageTextPairDataset.from_webdataset(str(folder / "nemo")).metadata.collect()
    assert frame["key"].to_list() == keys
    assert np.array_equal(np.array(frame[EMBEDDING].to_list()), vectors)

    clip = folder / "clip-retrieval"
    matched = folder / "matched"
    curate(
        *("export", "match", clip / "img_emb", clip / "metadata", matched),
        *("--shards", shards.url),
    )
    for file in (folder / "npy").rglob("*.npy"):
        assert np.array_equal(np.load(matched / file.name), np.load(file))


def _stored(shards: LocalStorage) -> tuple[np.ndarray, list[str]]:
    """Read the vectors and keys of all filtered shards."""
    tables = [
        read_table(shards, file.path, FILTERED)
        for file in shards.list_files(suffix=".parquet")
    ]
    vectors = [embedding_matrix(table[EMBEDDING])[0] for table in tables]
    keys = [key for table in tables for key in table["key"].to_pylist()]
    return np.concatenate(vectors).astype(np.float32), keys
