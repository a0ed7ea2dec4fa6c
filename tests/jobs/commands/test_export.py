"""``curate export npy``, ``clip-retrieval`` and ``nemo``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation import ImageTextPairDataset
from curation.storage import LocalStorage
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_table
from curation.training import get_reader
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


@pytest.fixture
def shards(curated: Curated) -> LocalStorage:
    """Give the folder of the recipe's filtered shards."""
    return LocalStorage(curated.output.root / curated.artifacts.filtered_folder)


def stored_vectors(shards: LocalStorage) -> np.ndarray:
    """Read all vectors in the order of the shards."""
    tables = [file.path for file in shards.list_files(suffix=".parquet")]
    return np.concatenate(
        [embedding_matrix(read_table(shards, p, FILTERED)[EMBEDDING])[0] for p in tables]
    )


def test_npy_are_written_per_shard(
    curated: Curated, shards: LocalStorage, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    told = run_json("export", "npy", tmp_path / "npy", "--recipe", curated.recipe_file)
    found = np.concatenate([np.load(tmp_path / "npy" / path) for path in told["paths"]])
    assert np.array_equal(found, stored_vectors(shards))
    assert (told["rows"], told["missing"]) == (len(found), 0)
    assert told["paths"] == [
        "img_emb_00000.npy", "train/img_emb_00001.npy", "train/img_emb_00002.npy",
    ]  # fmt: skip


def test_clip_retrievals_folders_are_written(
    curated: Curated, shards: LocalStorage, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "clip"
    told = run_json("export", "clip-retrieval", out, "--recipe", curated.recipe_file)
    reader = get_reader(True, f"{out}/img_emb", f"{out}/metadata")
    vectors = stored_vectors(shards)
    assert reader.count == told["rows"] == len(vectors)  # type: ignore[union-attr]
    parts = [np.load(path) for path in sorted((out / "img_emb").iterdir())]
    assert np.array_equal(np.concatenate(parts), vectors)


def test_nemos_layout_is_written_from_a_folder_without_a_recipe(
    shards: LocalStorage, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "nemo"
    told = run_json("export", "nemo", out, "--shards-folder", shards.url)
    assert len(told["paths"]) == 9
    frame = ImageTextPairDataset.from_webdataset(str(out)).metadata.collect()
    vectors = frame[EMBEDDING].to_list()
    assert np.array_equal(np.array(vectors, np.float16), stored_vectors(shards))
    columns = pq.read_schema(out / "00000.parquet").names
    assert {"key", "caption", "width", "sharpness_probe", "source_shard"} <= set(columns)


def test_people_are_told_how_much_and_where(
    curated: Curated, run: Run, tmp_path: Path
) -> None:
    code, out = run("export", "npy", tmp_path / "npy", "--recipe", curated.recipe_file)
    assert code == 0
    assert "without a vector" in out
    assert f"written to {tmp_path / 'npy'}" in out


def test_nothing_to_export_is_wrong_input(run: Run, tmp_path: Path) -> None:
    arguments = ("export", "npy", tmp_path / "out", "--shards-folder", tmp_path / "none")
    assert run(*arguments)[0] == 2
