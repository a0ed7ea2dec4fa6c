"""Sizes on record are those of the files, whatever was recorded before."""

import dagster as dg
import pytest

from curation.storage import MemoryStorage
from curation_assets import file_sizes
from curation_assets.file_sizes import record_sizes, recorded_sizes


def test_the_last_sizes_of_many_shards_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sizes, "MOST_KEYS", 2)
    output = MemoryStorage("sizes")
    shards = [f"train/{number:05d}" for number in range(5)]
    with dg.DagsterInstance.ephemeral() as instance:
        for size in (7, 9):
            for shard in shards:
                output.write(f"{shard}.idx", bytes(size))
                files = (f"{shard}.idx", f"{shard}.gone")
                record_sizes(instance, "shard_index", shard, output, files)
        found = recorded_sizes(instance, "shard_index", [*shards, "unknown"])
        assert found == {f"{shard}.idx": 9 for shard in shards}
        assert recorded_sizes(instance, "embeddings", shards) == {}
