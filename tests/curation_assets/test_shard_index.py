"""The index beside what tarfile and DALI's own tool say."""

import tarfile

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dali_index import check_index_fits, parse_index
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
