"""Samples have the bytes that ``tarfile`` finds in their tar, however they are read."""

import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import samples
from curation.errors import NotFoundError, StaleError
from curation.index import ShardIndex, build_index
from curation.samples import (
    BLOCK_BYTES,
    BLOCKS_AHEAD,
    GAP_BYTES,
    PassingSamples,
    Sample,
    read_samples,
)
from curation.storage import LocalStorage, MemoryStorage, S3Storage, Storage
from curation.tar import read_members
from curation.testing import tars
from curation.testing.tars import MadeTar, TarMember, write_tar


def stored(tar: bytes, storage: Storage | None = None) -> tuple[Storage, ShardIndex]:
    storage = storage or MemoryStorage()
    storage.write("a.tar", tar)
    return storage, build_index(read_members(storage, "a.tar"))


def expected_contents(tar: bytes, index: ShardIndex) -> dict[str, dict[str, bytes]]:
    """Key to extension to what ``tarfile`` extracts."""
    found: dict[str, dict[str, bytes]] = {key: {} for key in index.keys}
    with tars.open_tar(tar) as opened:
        by_start = {info.offset_data: info for info in opened.getmembers()}
        for row in index.components.to_pylist():
            reader = opened.extractfile(by_start[row["data_start"]])
            assert reader is not None
            found[row["key"]][row["extension"]] = reader.read()
    return found


@given(tars.tars(), st.sets(st.sampled_from(["jpg", "JPG", "txt", "seg.png", "webp"])))
def test_components_have_the_bytes_that_tarfile_extracts(
    made: MadeTar, extensions: set[str]
) -> None:
    tar = made.to_bytes()
    storage, index = stored(tar)
    found = list(read_samples(storage, "a.tar", index, extensions))
    assert [sample.key for sample in found] == index.keys
    wanted = {extension.lower() for extension in extensions}
    for sample, expected in zip(found, expected_contents(tar, index).values(), strict=True):
        kept = {e: data for e, data in expected.items() if e.lower() in wanted}
        assert sample.contents == kept
        sizes = {part.extension: part.size for part in sample.components}
        assert sizes == {extension: len(data) for extension, data in expected.items()}


def test_a_local_file_and_s3_give_the_same(tmp_path: Path, s3_storage: S3Storage) -> None:
    tar = write_tar(
        TarMember(f"{n:03}.{e}", bytes([n]) * n * 20) for n in range(200) for e in "ab"
    )
    expected = list(read_samples(*from_tar(stored(tar)), {"a", "b"}))
    for storage in (LocalStorage(tmp_path), s3_storage):
        assert list(read_samples(*from_tar(stored(tar, storage)), {"a", "b"})) == expected


def from_tar(found: tuple[Storage, ShardIndex]) -> tuple[Storage, str, ShardIndex]:
    return found[0], "a.tar", found[1]


class Counted(MemoryStorage):
    """Remembers what was read."""

    @property
    def reads(self) -> list[tuple[int, int]]:
        reads: list[tuple[int, int]] = vars(self).setdefault("reads_", [])
        return reads

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        assert stop is not None
        self.reads.append((start, stop))
        return super().read(path, start, stop)


def test_near_components_are_read_together_and_far_ones_apart() -> None:
    sizes = [100, 100, 100, GAP_BYTES + 10_000, 100]
    members = [TarMember(f"{n}.jpg", b"x" * size) for n, size in enumerate(sizes)]
    members[3] = TarMember("3.txt", members[3].data)
    storage = Counted()
    _, index = stored(write_tar(members), storage)
    storage.reads.clear()
    assert len(list(read_samples(storage, "a.tar", index, {"jpg"}))) == len(sizes)
    assert len(storage.reads) == 2
    assert sum(stop - start for start, stop in storage.reads) < GAP_BYTES


def test_a_shard_is_never_held_as_a_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    members = [TarMember(f"{n}.jpg", b"x" * (1 << 20)) for n in range(120)]
    storage.write("a.tar", write_tar(members))
    index = build_index(read_members(storage, "a.tar"))
    del members
    tracemalloc.start()
    read = sum(
        len(s.contents["jpg"]) for s in read_samples(storage, "a.tar", index, {"jpg"})
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == 120 << 20
    # each block is held once as it was read and once in pieces
    assert peak < 2 * (BLOCKS_AHEAD + 2) * BLOCK_BYTES


def test_a_reader_that_stops_early_reads_little_more() -> None:
    storage = Counted()
    members = [TarMember(f"{n}.jpg", b"x" * (3 << 20)) for n in range(40)]
    _, index = stored(write_tar(members), storage)
    storage.reads.clear()
    first: list[Sample] = list(itertools.islice(read_all(storage, index), 1))
    assert first[0].key == "0"
    assert sum(b - a for a, b in storage.reads) <= (BLOCKS_AHEAD + 2) * BLOCK_BYTES


def read_all(storage: Storage, index: ShardIndex) -> Iterator[Sample]:
    return read_samples(storage, "a.tar", index, {"jpg"})


def test_a_component_that_is_too_large_is_named_but_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "MAX_COMPONENT_BYTES", 1000)
    storage, index = stored(
        write_tar([TarMember("a.jpg", b"x" * 1001), TarMember("a.txt", b"t")])
    )
    (sample,) = read_samples(storage, "a.tar", index, {"jpg", "txt"})
    assert sample.contents == {"txt": b"t"}
    assert [part.size for part in sample.components] == [1001, 1]


def test_a_tar_that_ends_too_early_is_stale() -> None:
    storage, index = stored(write_tar([TarMember("a.jpg", b"x" * 5000)]))
    storage.write("a.tar", write_tar([TarMember("a.jpg", b"x")]))
    with pytest.raises(
        StaleError,
        match=r"6656 bytes of version .* found 2048 bytes of version .* was replaced",
    ):
        list(read_samples(storage, "a.tar", index, {"jpg"}))
    storage.delete("a.tar")
    with pytest.raises(NotFoundError):
        list(read_samples(storage, "a.tar", index, {"jpg"}))


@given(tars.sample_members(), st.integers(1, 5000))
def test_samples_that_go_by_are_those_that_are_read(
    members: list[TarMember], block: int
) -> None:
    tar = write_tar(members)
    storage, index = stored(tar)
    extensions = index.components["extension"].to_pylist()
    expected = list(read_samples(storage, "a.tar", index, extensions))
    passing = PassingSamples(index)
    blocks = [tar[start : start + block] for start in range(0, len(tar), block)]
    assert [sample for part in blocks for sample in passing.see(part)] == expected
