"""Kept samples travel byte for byte, and a filtered shard is there whole or not at all."""

import hashlib
import multiprocessing
import resource
import time
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dali_index import format_index
from curation.errors import NotFoundError, StaleError, StorageError, TableError
from curation.index import ShardIndex, build_index
from curation.reshard import END_OF_ARCHIVE, describe_kept, reshard
from curation.storage import LocalStorage, MemoryStorage, S3Storage, Storage
from curation.tables import FILTERED, write_table
from curation.tar import read_members
from curation.testing import tars
from curation.testing.readers import (
    extract_with_gnu_tar,
    read_with_dali,
    read_with_webdataset,
)
from curation.testing.tars import MadeTar, TarMember, write_tar

SHARD = "raw/a.tar"
TARGET = "filtered/a.tar"


def stored(tar: bytes, storage: Any = None) -> tuple[Any, ShardIndex]:
    storage = MemoryStorage() if storage is None else storage
    storage.write(SHARD, tar)
    return storage, index_of(storage, SHARD)


def index_of(storage: Storage, path: str) -> ShardIndex:
    return build_index(read_members(storage, path))


def some_kept(data: st.DataObject, index: ShardIndex) -> np.ndarray:
    size = len(index)
    return np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)


def kept_rows(index: ShardIndex, kept: np.ndarray) -> list[dict[str, object]]:
    return [row for row in index.components.to_pylist() if kept[row["sample"]]]


def without_places(index: ShardIndex) -> list[tuple[str, str, str, int]]:
    columns = ("key", "extension", "name", "size")
    return [tuple(row[c] for c in columns) for row in index.components.to_pylist()]


@given(tars.tars(), st.data())
@settings(max_examples=100)
def test_members_keep_every_byte_headers_too(made: MadeTar, data: st.DataObject) -> None:
    tar = made.to_bytes()
    storage, index = stored(tar)
    kept = some_kept(data, index)
    reshard(storage, index, kept, storage, TARGET)
    members = [
        tar[row["header_start"] : row["end"]]
        for row in index.components.to_pylist()
        if kept[row["sample"]]
    ]
    headers = [tar[start:stop] for start, stop in index.global_headers]
    assert storage.read(TARGET) == b"".join([*headers, *members, END_OF_ARCHIVE])


@given(tars.tars(), st.data())
@settings(max_examples=100)
def test_tarfile_finds_the_kept_members_and_their_bytes(
    made: MadeTar, data: st.DataObject
) -> None:
    tar = made.to_bytes()
    storage, index = stored(tar)
    kept = some_kept(data, index)
    reshard(storage, index, kept, storage, TARGET)
    filtered = storage.read(TARGET)
    expected = [
        (row["name"], tar[row["data_start"] : row["data_start"] + row["size"]])
        for row in index.components.to_pylist()
        if kept[row["sample"]]
    ]
    found = [
        (tars.shown_name(i), filtered[i.offset_data : i.offset_data + i.size])
        for i in (tars.list_tar(filtered) if kept.any() else [])
    ]
    assert found == expected


@given(tars.tars(), st.data())
@settings(max_examples=100)
def test_the_index_that_is_given_is_that_of_the_new_tar(
    made: MadeTar, data: st.DataObject
) -> None:
    storage, index = stored(made.to_bytes())
    ours = reshard(storage, index, some_kept(data, index), storage, TARGET)
    read = index_of(storage, TARGET)
    assert ours.catalog.equals(read.catalog)
    assert (ours.file, ours.global_headers) == (read.file, read.global_headers)


@given(tars.sample_members())
def test_keeping_all_of_a_proper_shard_gives_the_shard(members: list[TarMember]) -> None:
    tar = write_tar(members)
    storage, index = stored(tar)
    reshard(storage, index, np.ones(len(index), bool), storage, TARGET)
    assert storage.read(TARGET) == tar


@given(tars.tars())
def test_keeping_all_is_the_identity_on_members(made: MadeTar) -> None:
    storage, index = stored(made.to_bytes())
    all_kept = np.ones(len(index), bool)
    once = reshard(storage, index, all_kept, storage, TARGET)
    assert without_places(once) == without_places(index)
    reshard(storage, once, all_kept, storage, "filtered/again.tar")
    assert storage.read("filtered/again.tar") == storage.read(TARGET)


@given(tars.sample_members(adjacent=False))
def test_scattered_members_of_a_sample_end_up_side_by_side(
    members: list[TarMember],
) -> None:
    storage, index = stored(write_tar(members))
    reshard(storage, index, np.ones(len(index), bool), storage, TARGET)
    keys = {row["name"]: row["key"] for row in index.components.to_pylist()}
    written = tars.list_tar(storage.read(TARGET)) if members else []
    runs = [key for key, _ in groupby(keys[info.name] for info in written)]
    assert runs == index.keys


def photographs(num_samples: int, size: int = 20_000) -> bytes:
    random = Random(0)
    return write_tar(
        TarMember(
            f"{n:06}.{extension}", random.randbytes(size if extension == "jpg" else 50)
        )
        for n in range(num_samples)
        for extension in ("jpg", "txt", "json")
    )


@pytest.fixture(params=["local", "memory", "s3_storage", "copying_s3_storage"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param.endswith("s3_storage"):
        s3: S3Storage = request.getfixturevalue(request.param)
        return s3
    return LocalStorage(tmp_path) if request.param == "local" else MemoryStorage()


def test_every_storage_writes_the_same_bytes_twice(storage: Storage) -> None:
    tar = photographs(600)  # 13 MB: several parts of an upload
    elsewhere, index = stored(tar)
    kept = np.arange(600) % 3 > 0
    kept[20:580] = True  # long enough for a server to copy it by itself
    reshard(elsewhere, index, kept, elsewhere, TARGET)
    expected = hashlib.sha256(elsewhere.read(TARGET)).hexdigest()
    _, index = stored(tar, storage)
    for path in (TARGET, TARGET, "filtered/b.tar"):
        reshard(storage, index, kept, storage, path)
        assert hashlib.sha256(storage.read(path)).hexdigest() == expected


def test_ranges_go_from_any_storage_to_any_other(
    tmp_path: Path, s3_storage: S3Storage
) -> None:
    tar = photographs(40)
    storages = [LocalStorage(tmp_path), MemoryStorage(), s3_storage]
    for source in storages:
        _, index = stored(tar, source)
        for output in storages:
            reshard(source, index, np.arange(40) % 2 == 0, output, TARGET)
            names = [i.name for i in tars.list_tar(output.read(TARGET))]
            assert names == [
                f"{n:06}.{e}" for n in range(0, 40, 2) for e in ("jpg", "txt", "json")
            ]


def test_a_selection_of_another_index_is_refused() -> None:
    storage, index = stored(photographs(3))
    with pytest.raises(TableError, match="selection has 2 rows, its index has 3 samples"):
        reshard(storage, index, np.ones(2, bool), storage, TARGET)
    assert not storage.exists(TARGET)


def test_a_shard_that_was_replaced_is_refused_and_nothing_is_written(
    storage: Storage,
) -> None:
    _, index = stored(photographs(3), storage)
    storage.write(SHARD, photographs(4))
    with pytest.raises(StaleError, match="was replaced"):
        reshard(storage, index, np.ones(3, bool), storage, TARGET)
    assert [file.path for file in storage.list_files()] == [SHARD]
    storage.delete(SHARD)
    with pytest.raises(NotFoundError):
        reshard(storage, index, np.ones(3, bool), storage, TARGET)


class ReplacedWhileCopied(MemoryStorage):
    """Somebody uploads the shard again while it is copied."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        data = super().read(path, start, stop)
        self.write(path, photographs(4))
        return data


def test_a_shard_that_is_replaced_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    storage, index = stored(photographs(3))
    replaced = ReplacedWhileCopied(files=storage.files)
    output = LocalStorage(tmp_path)
    with pytest.raises(StaleError, match="was replaced"):
        reshard(replaced, index, np.ones(3, bool), output, TARGET)
    assert list(tmp_path.rglob("*.*")) == []


class LosesItsConnection(MemoryStorage):
    """Answers for a while."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is None or stop > 9 << 20:
            raise StorageError("the connection was lost; the same call may work later")
        return super().read(path, start, stop)


def test_a_lost_connection_leaves_nothing_and_the_next_run_goes_on(
    storage: Storage,
) -> None:
    source, index = stored(photographs(600))
    kept = np.ones(600, bool)
    lost = LosesItsConnection(files=source.files)
    with pytest.raises(StorageError, match="connection was lost"):
        reshard(lost, index, kept, storage, TARGET)
    assert storage.list_files() == []
    reshard(source, index, kept, storage, TARGET)
    assert storage.read(TARGET) == source.read(SHARD)


def test_a_full_disk_leaves_nothing_and_the_next_run_goes_on(tmp_path: Path) -> None:
    source, output = LocalStorage(tmp_path / "in"), LocalStorage(tmp_path / "out")
    _, index = stored(photographs(10), source)
    kept = np.ones(10, bool)
    # the kernel refuses to make a file larger as it does on a full disk
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(StorageError, match="try again"):
            reshard(source, index, kept, output, TARGET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path for path in output.root.rglob("*") if path.is_file()] == []
    reshard(source, index, kept, output, TARGET)
    assert output.read(TARGET) == source.read(SHARD)


def kill_while_it_writes(folder: Path, times: int) -> None:
    """Kill runs at random moments between their start and their usual end."""
    source, output = LocalStorage(folder / "in"), LocalStorage(folder / "out")
    _, index = stored(photographs(1500), source)  # 35 MB
    kept = np.arange(1500) % 7 > 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["curation.reshard"])
    arguments = (source, index, kept, output, TARGET)
    for _ in range(2):  # the first one waits for its server
        began = time.monotonic()
        process = context.Process(target=reshard, args=arguments)
        process.start()
        process.join()
    usual = time.monotonic() - began
    expected = output.read(TARGET)
    random = Random(0)
    for _ in range(times):
        output.delete(TARGET)
        process = context.Process(target=reshard, args=arguments)
        process.start()
        process.join(random.uniform(0, usual))
        process.kill()
        process.join()
        process.close()
        assert [f.path for f in output.list_files()] in ([], [TARGET])
        if output.exists(TARGET):
            assert output.read(TARGET) == expected
    reshard(*arguments)
    assert output.read(TARGET) == expected


def test_a_killed_run_leaves_nothing_visible(tmp_path: Path) -> None:
    kill_while_it_writes(tmp_path, times=15)


@pytest.mark.slow
def test_fifty_killed_runs_leave_nothing_visible(tmp_path: Path) -> None:
    kill_while_it_writes(tmp_path, times=50)


@given(members=tars.sample_members().filter(bool), data=st.data())
@settings(max_examples=15)
def test_everyone_elses_tools_read_a_filtered_shard(
    tmp_path_factory: pytest.TempPathFactory, members: list[TarMember], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    storage, index = stored(write_tar(members))
    kept = some_kept(data, index)
    kept[0] = True
    output = LocalStorage(folder)
    filtered = reshard(storage, index, kept, output, "a.tar")
    output.write("a.idx", format_index(filtered))
    contents = {member.name: member.data for member in members}
    expected: dict[str, dict[str, bytes]] = {}
    for row in kept_rows(index, kept):
        expected.setdefault(row["key"], {})[row["extension"]] = contents[row["name"]]
    extensions = ["jpg", "png", "txt", "json", "seg.png"]

    assert read_with_webdataset(folder / "a.tar") == expected
    assert read_with_dali(folder / "a.tar", folder / "a.idx", extensions) == [
        [sample.get(extension, b"") for extension in extensions]
        for sample in expected.values()
    ]
    extracted = extract_with_gnu_tar(folder / "a.tar", folder / "extracted")
    assert extracted == {
        f"{key}.{extension}".removeprefix("./"): content
        for key, sample in expected.items()
        for extension, content in sample.items()
    }


def scores_of(keys: list[str]) -> pa.Table:
    scores = np.arange(len(keys), dtype=np.float32)
    return pa.table({"key": pa.array(keys, pa.string()), "aesthetic": scores})


@given(tars.tars(), st.data())
def test_a_row_tells_where_its_sample_came_from(made: MadeTar, data: st.DataObject) -> None:
    tar = made.to_bytes()
    _, index = stored(tar)
    kept = some_kept(data, index)
    order = data.draw(st.permutations(range(len(index))))
    table = scores_of(index.keys).take(pa.array(order, pa.int64()))
    rows = describe_kept(index, kept, [table], shard="raw/a").to_pylist()
    assert [row["key"] for row in rows] == [
        k for k, keep in zip(index.keys, kept, strict=True) if keep
    ]
    for row in rows:
        number = index.keys.index(row["key"])
        assert row["aesthetic"] == number
        assert row["source_shard"] == "raw/a"
        ranges = [(place["start"], place["stop"]) for place in row["source_ranges"]]
        assert all(a[1] != b[0] for a, b in pairwise(ranges))
        members = [r for r in index.components.to_pylist() if r["sample"] == number]
        expected = [tar[r["header_start"] : r["end"]] for r in members]
        assert b"".join(tar[a:b] for a, b in ranges) == b"".join(expected)


def test_a_table_without_a_kept_sample_is_refused() -> None:
    _, index = stored(photographs(3))
    table = scores_of(index.keys[:2])
    assert len(describe_kept(index, np.array([1, 1, 0], bool), [table], shard="a")) == 2
    with pytest.raises(TableError, match="no row for 000002"):
        describe_kept(index, np.ones(3, bool), [table], shard="a")


def test_the_first_table_that_has_a_column_gives_it_and_vectors_come_last() -> None:
    _, index = stored(photographs(2))
    vectors = pa.table({"key": index.keys, "image_embedding": [b"ab", b"cd"], "x": [1, 2]})
    later = pa.table({"key": index.keys, "x": [3, 4], "y": [5, 6]})
    found = describe_kept(index, np.ones(2, bool), [vectors, later], shard="a")
    assert found.column_names[-1] == "image_embedding"
    assert found["x"].to_pylist() == [1, 2]
    assert found["y"].to_pylist() == [5, 6]


def test_pyarrow_and_polars_read_the_table(tmp_path: Path) -> None:
    _, index = stored(photographs(5))
    kept = np.array([1, 0, 1, 1, 0], bool)
    table = describe_kept(index, kept, [scores_of(index.keys)], shard="raw/a")
    write_table(LocalStorage(tmp_path), "a.parquet", FILTERED, table, fingerprint="f")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == table.to_pylist()
    read = pl.read_parquet(tmp_path / "a.parquet")
    assert read["key"].to_list() == ["000000", "000002", "000003"]
    assert read["source_ranges"].to_list() == table["source_ranges"].to_pylist()
