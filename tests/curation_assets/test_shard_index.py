"""The index beside what tarfile and DALI's own tool say."""

import tarfile

import dagster as dg
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dali_index import check_index_fits, parse_index
from curation.index import read_catalog
from curation_assets.shard_index import AGREES, NONE_BESIDE, compare_beside
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated


def test_the_catalog_has_every_file_that_tarfile_lists(curated: Curated) -> None:
    for file in curated.source.list_files(suffix=".tar"):
        shard = file.path[:-4]
        path = curated.output.root / curated.artifacts.catalog(shard)
        catalog = pq.read_table(path)
        with tarfile.open(curated.source.root / file.path) as tar:
            expected = {m.name: (m.offset_data, m.size) for m in tar if m.isfile()}
        rows = catalog.select(["name", "data_start", "size"]).to_pylist()
        assert {r["name"]: (r["data_start"], r["size"]) for r in rows} == expected


def test_what_is_in_no_sample_is_listed_with_its_reason(curated: Curated) -> None:
    catalog = pq.read_table(curated.output.root / curated.artifacts.catalog("00000"))
    lost = catalog.filter(pc.is_valid(catalog["loss"])).to_pylist()
    assert {row["name"].split("/")[-1] for row in lost} == {"._cover.jpg", "README"}


def test_the_dali_index_fits_its_tar(curated: Curated) -> None:
    data = curated.output.read(curated.artifacts.index("00000"))
    samples = parse_index(data, "00000")
    assert len(samples) == 80
    check_index_fits(samples, curated.source, "00000.tar")


def test_an_index_beside_the_tar_is_compared_with_the_tar_itself(curated: Curated) -> None:
    ours = curated.output.read(curated.artifacts.index("00000"))
    index = read_catalog(curated.output, curated.artifacts.catalog("00000"))
    assert compare_beside(curated.source, "00000", index) == NONE_BESIDE
    curated.source.write("00000.idx", ours)
    assert compare_beside(curated.source, "00000", index) == AGREES
    curated.source.write("00000.idx", curated.output.read("index/train/00001.idx"))
    assert compare_beside(curated.source, "00000", index).startswith(
        "it has a sample whose"
    )


def test_a_wrong_index_beside_the_tar_is_not_used_and_told(curated: Curated) -> None:
    ours = curated.output.read(curated.artifacts.index("00000"))
    curated.source.write("00000.idx", b"v1.2 0\n")
    curated.output.delete(curated.artifacts.index("00000"))
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    with open_instance(curated.recipe) as instance:
        done = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("shard_index")],
            partition_key="00000",
        )
    (event,) = done.get_asset_materialization_events()
    told = event.materialization.metadata["idx_at_source"].value
    assert told == "it lists 0 samples, and the shard has 80"
    assert curated.output.read(curated.artifacts.index("00000")) == ours
