"""The tars of a release, read by everyone else's tools."""

import json
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from curation.errors import InputError
from curation.recipe import TextSettings
from curation.release.manifest import Manifest
from curation.release.shard import Target, find_shard, hash_file
from curation.storage import LocalStorage, MemoryStorage
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_table
from curation.testing.readers import (
    extract_with_gnu_tar,
    index_with_wds2idx,
    read_with_dali,
    read_with_webdataset,
)
from tests.curation.release.world import (
    numbered,
    picture,
    release,
    released,
    samples_of,
    small_recipe,
    tar_of,
    write_filtered,
)

SAMPLES = {
    **numbered(3),
    "folder/with space": {**picture("a"), "seg.png": b"mask", "JSON": b'{"upper": 1}'},
    "no metadata": {"jpg": b"image", "cls": b"7"},
    "broken": {"jpg": b"other", "json": b"{no json"},
    "empty": {"jpg": b"third", "json": b"", "txt": b""},
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    storage = LocalStorage(tmp_path_factory.mktemp("release"))
    write_filtered(storage, "a", SAMPLES)
    return storage


@pytest.fixture(scope="module")
def made(output: LocalStorage) -> Manifest:
    return released(output, small_recipe(samples_per_shard=5, npy=True), "a")


@pytest.fixture(scope="module")
def tar(output: LocalStorage, made: Manifest) -> Path:
    return output.root / made.folder / "00001.tar"


@pytest.fixture(scope="module")
def expected(output: LocalStorage, made: Manifest) -> dict[str, dict[str, bytes]]:
    return {k: v for k, v in samples_of(output, made).items() if k.startswith("00001")}


def test_components_of_every_kind_go_along(output: LocalStorage, made: Manifest) -> None:
    found = list(samples_of(output, made).values())
    assert [list(sample) for sample in found] == [list(s) for s in SAMPLES.values()]
    for new, old in zip(found, SAMPLES.values(), strict=True):
        for extension, data in old.items():
            if extension.lower() != "json" or data in (b"", b"{no json"):
                assert new[extension] == data
    assert json.loads(found[3]["JSON"])["release_source"]["key"] == "folder/with space"


def test_the_key_is_written_into_the_component_that_the_recipe_calls_metadata() -> None:
    storage, data = MemoryStorage(), {"meta.json": b"{}", "json": b"{}", "seg.json": b"{}"}
    write_filtered(storage, "a", {"one": {**picture("a"), **data}})
    recipe = small_recipe().model_copy(
        update={"texts": TextSettings(metadata_extensions=("meta.json", "json"))}
    )
    (sample,) = samples_of(storage, released(storage, recipe, "a")).values()
    assert json.loads(sample["meta.json"])["release_source"]["key"] == "one"
    assert (sample["json"], sample["seg.json"]) == (b"{}", b"{}")


def test_tarfile_reads_it_strictly(
    tar: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    with tarfile.open(tar, errorlevel=2) as file:
        names = [member.name for member in file]
    assert names == [f"{key}.{e}" for key, sample in expected.items() for e in sample]
    assert tar.stat().st_size % 512 == 0


def test_gnu_tar_extracts_it(
    tar: Path, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    assert extract_with_gnu_tar(tar, tmp_path / "x") == {
        f"{key}.{e}": data for key, sample in expected.items() for e, data in sample.items()
    }


def test_webdataset_reads_it(tar: Path, expected: dict[str, dict[str, bytes]]) -> None:
    found = read_with_webdataset(tar)
    assert list(found) == list(expected)
    for key, sample in expected.items():
        assert found[key] == {e.lower(): data for e, data in sample.items()}


def test_dali_reads_it_by_its_index(
    tar: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    idx = tar.with_suffix(".idx")
    assert idx.read_bytes() == index_with_wds2idx(tar)
    found = read_with_dali(tar, idx, ["jpg", "txt"])
    assert found == [[s["jpg"], s.get("txt", b"")] for s in expected.values()]


@pytest.mark.filterwarnings("ignore")  # of its own use of other packages
def test_hugging_face_datasets_load_it(
    output: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path / "plain")
    write_filtered(storage, "a", numbered(5))
    made = released(storage, small_recipe(samples_per_shard=3), "a")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets  # reads the variable when it is imported

    loaded = datasets.load_dataset(
        "webdataset",
        data_files=[str(p) for p in sorted((storage.root / made.folder).glob("*.tar"))],
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    loaded = loaded.cast_column("jpg", datasets.Image(decode=False))
    expected = samples_of(storage, made)
    assert loaded["__key__"][:] == list(expected)
    assert [row["jpg"]["bytes"] for row in loaded] == [s["jpg"] for s in expected.values()]
    assert [row["json"]["key"] for row in loaded] == list(expected)


def test_pyarrow_and_polars_read_the_table(
    tar: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    table = pq.read_table(tar.with_suffix(".parquet"))
    frame = pl.read_parquet(tar.with_suffix(".parquet"))
    assert table["key"].to_pylist() == frame["key"].to_list() == list(expected)
    assert frame["source_key"].to_list() == list(SAMPLES)[5:]


def test_vectors_are_the_tables_row_by_row(output: LocalStorage, made: Manifest) -> None:
    vectors = np.load(output.root / made.folder / "img_emb_00000.npy")
    table = read_table(output, f"{made.folder}/00000.parquet", FILTERED)
    assert (vectors == embedding_matrix(table[EMBEDDING])[0]).all()


def test_vectors_that_are_not_there_are_missed() -> None:
    storage = MemoryStorage("no vectors")
    write_filtered(storage, "a", numbered(2), vectors=False)
    with pytest.raises(InputError, match=r"filtered\.embeddings"):
        release(storage, small_recipe(npy=True), "a")
    assert release(storage, small_recipe(), "a") is not None


def test_a_shard_is_found_only_if_it_is_whole() -> None:
    storage = MemoryStorage("found")
    write_filtered(storage, "a", numbered(2))
    recipe = small_recipe()
    made = released(storage, recipe, "a")
    (shard,) = made.shards
    target = Target(storage, made.folder, recipe.release)
    assert find_shard(0, shard.fingerprint, target) == shard
    assert find_shard(0, "another", target) is None
    assert find_shard(1, shard.fingerprint, target) is None
    storage.write(f"{made.folder}/00000.tar", tar_of(numbered(1)))
    assert find_shard(0, shard.fingerprint, target) is None


def test_a_hash_is_sha256sums() -> None:
    storage = MemoryStorage("hash")
    storage.write("x", b"abc")
    found = hash_file(storage, "x", "name")
    # FIPS 180-4, example B.1
    assert found.sha256.startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
    assert (found.path, found.num_bytes) == ("name", 3)
