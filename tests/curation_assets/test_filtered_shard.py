"""Filtered shards of a run, read by tarfile and webdataset."""

import tarfile

import pytest
import webdataset

from curation.tables import EMBEDDING, FILTERED, SELECTION, read_about, read_table
from curation.verify import verify_shards
from jobs.curate import curate
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ("00000", "train/00001", "train/00002")


def members(path: str) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize("shard", SHARDS)
def test_kept_samples_have_all_their_files_byte_for_byte(
    curated: Curated, shard: str
) -> None:
    raw = members(f"{curated.source.root}/{shard}.tar")
    kept = members(f"{curated.output.root}/{curated.artifacts.filtered_tar(shard)}")
    table = read_table(curated.output, curated.artifacts.selection(shard), SELECTION)
    keys = {row["key"] for row in table.to_pylist() if row["kept"]}

    def key(name: str) -> str:
        folder, slash, base = name.rpartition("/")
        return folder + slash + base.partition(".")[0]

    expected = {name: data for name, data in raw.items() if key(name) in keys}
    expected = {n: d for n, d in expected.items() if n.rpartition("/")[2] != "README"}
    assert kept == expected


# webdataset leaves the tar open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_kept_keys(curated: Curated) -> None:
    tar = f"{curated.output.root}/{curated.artifacts.filtered_tar('00000')}"
    found = [s["__key__"] for s in webdataset.WebDataset(tar, shardshuffle=False)]
    table = read_table(curated.output, curated.artifacts.filtered_table("00000"), FILTERED)
    assert found == table["key"].to_pylist()


def test_the_table_says_where_each_sample_was(curated: Curated) -> None:
    raw = (curated.source.root / "00000.tar").read_bytes()
    table = read_table(curated.output, curated.artifacts.filtered_table("00000"), FILTERED)
    filtered = members(f"{curated.output.root}/{curated.artifacts.filtered_tar('00000')}")
    for row in table.to_pylist():
        assert row["source_shard"] == "00000"
        found = b"".join(raw[r["start"] : r["stop"]] for r in row["source_ranges"])
        own = [data for name, data in filtered.items() if name.startswith(row["key"])]
        assert own
        assert all(data in found for data in own)


def test_tar_index_and_table_agree(curated: Curated) -> None:
    done = verify_shards(curated.output, curated.artifacts.filtered_folder)
    assert (done.num_shards, done.differences) == (3, ())


def test_captions_and_vectors_are_left_out_where_the_recipe_says_so(
    curated: Curated,
) -> None:
    path = curated.artifacts.filtered_table("00000")
    assert {"caption", EMBEDDING} <= set(
        read_table(curated.output, path, FILTERED).column_names
    )
    curated.edit("machine:", "filtered: {captions: false, embeddings: false}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    columns = set(read_table(curated.output, path, FILTERED).column_names)
    assert columns.isdisjoint({"caption", "metadata", EMBEDDING})
    assert {"width", "sharpness_probe", "sha256"} <= columns


def test_the_table_remembers_filter_and_encoder(curated: Curated) -> None:
    about = read_about(curated.output, curated.artifacts.filtered_table("00000"))
    assert about["filter"] == curated.recipe.filter
    assert about["encoder"]["dim"] == 1280
