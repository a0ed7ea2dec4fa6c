"""NeMo Curator's layout, read back by pyarrow, webdataset, DALI and our own dataset."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import ImageTextPairDataset
from curation.dali_index import format_index
from curation.errors import InputError
from curation.exports import export_nemo
from curation.index import build_index
from curation.storage import LocalStorage
from curation.tables import FILTERED, write_table
from curation.tar import read_members
from curation.testing.image_embedding_folders import DIM, PER_SHARD, SHARDS, vector
from curation.testing.readers import read_with_dali, read_with_webdataset
from tests.curation.exports.conftest import WITHOUT


def test_tars_tables_and_indexes_lie_side_by_side_under_five_digits(
    filtered: LocalStorage, tmp_path: Path
) -> None:
    index = format_index(build_index(read_members(filtered, "0001.tar")))
    filtered.write("0001.idx", index)
    output = LocalStorage(tmp_path / "nemo")
    told: list[tuple[str, int]] = []
    report = export_nemo(filtered, output, lambda *shard: told.append(shard))
    assert (report.num_rows, report.num_missing) == (60, 1)
    assert told == [("0000", 20), ("0001", 20), ("0002", 20)]
    assert tuple(file.path for file in output.list_files()) == report.paths
    assert len(report.paths) == 2 * SHARDS + 1
    for shard in range(SHARDS):
        copy = output.read(f"{shard:05d}.tar")
        assert copy == filtered.read(f"{shard:04d}.tar")
    found = read_with_dali(
        output.root / "00001.tar", output.root / "00001.idx", ["jpg", "txt"]
    )
    assert found[3][1] == b"caption of 0001003"


def test_tables_hold_all_metadata_and_vectors_as_lists_of_floats(
    filtered: LocalStorage, tmp_path: Path
) -> None:
    output = LocalStorage(tmp_path / "nemo")
    export_nemo(filtered, output)
    for shard in range(SHARDS):
        table = pq.read_table(output.root / f"{shard:05d}.parquet")
        assert table.schema.field("image_embedding").type == pa.list_(pa.float32())
        assert table.schema.metadata is None
        assert table.column_names == [
            "key", "caption", "width", "image_embedding", "text_embedding",
        ]  # fmt: skip
        keys = list(read_with_webdataset(output.root / f"{shard:05d}.tar"))
        assert table["key"].to_pylist() == keys
        for row, found in enumerate(table["image_embedding"].to_pylist()):
            number = shard * PER_SHARD + row
            assert (found is None) == (number == WITHOUT)
            assert found is None or np.array_equal(np.float16(found), vector(number))
        text = np.array(table["text_embedding"].to_pylist(), np.float32)
        assert text.shape == (PER_SHARD, DIM)


def test_the_notebook_s_dataset_opens_it(filtered: LocalStorage, tmp_path: Path) -> None:
    export_nemo(filtered, LocalStorage(tmp_path / "nemo"))
    dataset = ImageTextPairDataset.from_webdataset(str(tmp_path / "nemo"), id_col="key")
    frame = dataset.metadata.collect()
    assert len(frame) == SHARDS * PER_SHARD
    assert frame["image_embedding"].dtype == pl.List(pl.Float32)
    assert frame.filter(pl.col("image_embedding").is_null())["key"].to_list() == ["0001003"]


def test_what_can_not_be_exported_is_refused(
    filtered: LocalStorage, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"0000\.tar is there already; name an empty"):
        export_nemo(filtered, filtered)
    filtered.write("00002.tar", filtered.read("0002.tar"))
    filtered.write("00002.parquet", filtered.read("0002.parquet"))
    with pytest.raises(InputError, match="would both be 00002"):
        export_nemo(filtered, LocalStorage(tmp_path / "nemo"))
    filtered.delete("00002.tar")
    table = pa.table({"key": ["0000000"]})
    write_table(filtered, "0000.parquet", FILTERED, table, fingerprint="x")
    with pytest.raises(InputError, match=r"0000\.parquet: there is no column"):
        export_nemo(filtered, LocalStorage(tmp_path / "nemo"))


def test_shards_of_the_same_number_are_numbered_anew(
    two_inputs: LocalStorage, tmp_path: Path
) -> None:
    output = LocalStorage(tmp_path / "nemo")
    told: list[str] = []
    export_nemo(two_inputs, output, lambda name, _: told.append(name))
    assert told == ["a/0000", "a/0001", "b/c/0000", "b/c/0001", "b/c/0002"]
    for number, name in enumerate(told):
        assert output.read(f"{number:05d}.tar") == two_inputs.read(f"{name}.tar")
        keys = pq.read_table(output.root / f"{number:05d}.parquet")["key"].to_pylist()
        assert keys == list(read_with_webdataset(output.root / f"{number:05d}.tar"))
