"""What was taken down is found again, by place and by image."""

import pytest

from curation.errors import TableError
from curation.recipe import ReleaseSettings
from curation.release.sources import read_filtered_shards
from curation.release.takedowns import (
    mask_taken_down,
    read_takedowns,
    taken_down_table,
    write_takedown,
)
from curation.storage import MemoryStorage
from tests.curation.release.world import FOLDER, numbered, write_filtered


def row(shard: str, key: str, sha256: str | None = None) -> dict[str, str | None]:
    found: dict[str, str | None] = {"source_shard": shard, "source_key": key}
    return {**found, "sha256": sha256, "release": "r", "release_key": "0"}


def test_records_add_up() -> None:
    output = MemoryStorage("output")
    assert len(read_takedowns(output)) == 0
    one = taken_down_table([row("a", "1")])
    assert write_takedown(output, one) == write_takedown(output, one)
    write_takedown(output, taken_down_table([row("a", "2", "ff")]))
    found = read_takedowns(output)
    assert sorted(found["source_key"].to_pylist()) == ["1", "2"]


def test_samples_are_meant_by_place_and_by_image() -> None:
    output = MemoryStorage("output")
    write_filtered(output, "a", numbered(4))
    write_filtered(output, "b", numbered(4))
    one, other = read_filtered_shards(output, FOLDER, ["a", "b"], ReleaseSettings())
    image = one.sha256[3].as_py()
    taken = taken_down_table([row("a", "000000001"), row("gone", "x", image)])
    assert mask_taken_down(one, taken).tolist() == [False, True, False, True]
    assert mask_taken_down(other, taken).tolist() == [False, False, False, True]
    assert not mask_taken_down(one, taken_down_table([])).any()


def test_a_record_that_can_not_be_read_stops_everything() -> None:
    output = MemoryStorage("output")
    output.write("takedowns/x.parquet", b"damaged")
    with pytest.raises(TableError, match="could come back"):
        read_takedowns(output)
