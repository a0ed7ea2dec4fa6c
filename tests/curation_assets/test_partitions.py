"""Which tars become partitions, under which keys."""

import dagster as dg
import pytest

from curation.errors import InputError
from curation.storage import MemoryStorage
from curation_assets.partitions import SHARDS, check_shard_keys, list_shards, tar_path


def source_with(*paths: str) -> MemoryStorage:
    storage = MemoryStorage()
    for path in paths:
        storage.write(path, b"x" * len(path))
    return storage


def test_a_key_is_the_path_without_tar() -> None:
    source = source_with("b/00001.tar", "a/deep/er/00000.tar", "00002.tar", "b/00001.idx")
    shards = list_shards(source)
    assert list(shards) == ["00002", "a/deep/er/00000", "b/00001"]
    assert [tar_path(key) for key in shards] == [tar.path for tar in shards.values()]
    assert shards["b/00001"] == source.stat("b/00001.tar")


@pytest.mark.parametrize("paths", [[], ["readme.txt", "00000.tar.gz", "tar"]])
def test_a_source_without_tars_says_what_to_set(paths: list[str]) -> None:
    with pytest.raises(InputError, match=r"no \.tar file .* set `source` in the recipe"):
        list_shards(source_with(*paths))


@pytest.mark.parametrize("key", ["a,b", "a...b", "a|b", "a\nb", "a\tb", "a\x7fb"])
def test_a_path_that_dagster_cannot_use_is_named(key: str) -> None:
    with pytest.raises(InputError) as caught:
        list_shards(source_with("fine.tar", f"{key}.tar"))
    assert repr(f"{key}.tar") in str(caught.value)
    assert "fine" not in str(caught.value)
    assert "rename" in str(caught.value)


@pytest.mark.parametrize("key", ["train/00042", "a b", "ü", "v1.0/x..y", "s=1&t"])
def test_every_other_path_is_a_key_that_dagster_keeps(key: str) -> None:
    check_shard_keys([key], "here")
    with dg.DagsterInstance.ephemeral() as instance:
        assert SHARDS.name
        instance.add_dynamic_partitions(SHARDS.name, [key])
        assert SHARDS.get_partition_keys(dynamic_partitions_store=instance) == [key]
