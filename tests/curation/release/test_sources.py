"""What planning reads of filtered shards."""

import pytest

from curation.errors import NotFoundError
from curation.recipe import ReleaseSettings
from curation.release.sources import FilteredReader, read_filtered_shards
from curation.storage import MemoryStorage
from curation.tables import FILTERED, read_table, write_table
from tests.curation.release.world import FOLDER, numbered, write_filtered


def test_sizes_are_those_of_the_raw_members() -> None:
    output = MemoryStorage("output")
    write_filtered(output, "a", numbered(3), kept=lambda key: key != "000000001")
    (found,) = read_filtered_shards(output, FOLDER, ["a"], ReleaseSettings())
    assert found.keys.to_pylist() == ["000000000", "000000002"]
    index = FilteredReader(output, FOLDER).index("a")
    starts, ends = (index.components[n].to_numpy() for n in ("header_start", "end"))
    assert found.num_bytes.sum() == (ends - starts).sum()
    assert (found.rows, found.source_version) == ("a rows", "version of a")


def test_an_older_table_counts_as_changed_whenever_it_is_made_anew() -> None:
    output = MemoryStorage("output")
    write_filtered(output, "a", numbered(3))
    path = f"{FOLDER}/a.parquet"
    table = read_table(output, path, FILTERED).replace_schema_metadata()
    write_table(output, path, FILTERED, table, fingerprint="made of this")
    (found,) = read_filtered_shards(output, FOLDER, ["a"], ReleaseSettings())
    assert (found.rows, found.source_version) == ("made of this", "unknown")


def test_a_missing_shard_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read_filtered_shards(
            MemoryStorage("output"), FOLDER, ["nowhere"], ReleaseSettings()
        )
