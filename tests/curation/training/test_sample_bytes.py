"""Bytes of samples in any order, against tarfile, from here and from elsewhere."""

import io
import os
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.errors import StaleError, StorageError
from curation.storage import Storage, retries
from curation.storage.base import StoredFile
from curation.testing.image_shards import make_tar
from curation.training import indexed_shards, sample_bytes
from curation.training.indexed_shards import IndexedShards, index_shards
from curation.training.sample_bytes import SampleBytes
from curation.training.shard_urls import open_shards
from tests.faulty_proxy import FaultyProxy

SIZES = (0, 1, 511, 512, 513, 70_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    chance = random.Random(0)
    for shard in range(3):
        members = [
            (f"{row:03d}.bin", chance.randbytes(chance.choice(SIZES))) for row in range(40)
        ]
        (folder / f"{shard}.tar").write_bytes(make_tar(members))
    return folder


def index(url: str) -> IndexedShards:
    return index_shards(open_shards(f"{url}/{{0..2}}.tar"), {"bin": ("bin",)})


def expected(folder: Path) -> list[bytes]:
    found = []
    for shard in range(3):
        with tarfile.open(folder / f"{shard}.tar") as tar:
            found += [file.read() for m in tar if (file := tar.extractfile(m))]
    return found


@pytest.mark.parametrize("elsewhere", [False, True])
def test_any_samples_in_any_order_have_their_bytes(
    folder: Path,
    elsewhere: bool,
    serve_http: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sample_bytes, "BLOCK_BYTES", 40_000)
    monkeypatch.setattr(sample_bytes, "FEWEST_BLOCKS", 3)
    monkeypatch.setattr(sample_bytes, "OPEN_TARS", 2)
    monkeypatch.setattr(sample_bytes, "RUN_BYTES", 200_000)
    monkeypatch.setattr(sample_bytes, "MOST_GAP_BYTES", 2000)
    indexed = index(serve_http(folder) if elsewhere else str(folder))
    contents = expected(folder)
    reader = pickle.loads(pickle.dumps(SampleBytes(indexed)))
    chance = np.random.default_rng(0)
    for count in (1, 5, 120, 0, 30):
        samples = chance.permutation(120)[:count]
        found = reader.read(samples, indexed.places["bin"])
        assert found == [contents[sample] for sample in samples]


def test_neighbours_are_read_at_once_with_all_their_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [(f"{n:02d}.{kind}", b"%d" % n) for n in range(20) for kind in ("a", "b")]
    (tmp_path / "0.tar").write_bytes(make_tar(members))
    indexed = index_shards(open_shards(f"{tmp_path}/0.tar"), {"a": ["a"], "b": ["b"]})
    reads: list[int] = []
    pread = os.pread

    def counted(file: int, size: int, start: int) -> bytes:
        reads.append(size)
        return pread(file, size, start)

    reader = SampleBytes(indexed)
    monkeypatch.setattr(os, "pread", counted)
    for samples in (np.arange(3, 11), np.array([12, 4])):
        for name in ("a", "b"):
            found = reader.read(samples, indexed.places[name])
            assert found == [b"%d" % number for number in samples]
    assert len(reads) == 3  # of eight neighbours one, of two others two


def test_mixed_samples_elsewhere_are_fetched_once(
    folder: Path, serve_http: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_bytes, "BLOCK_BYTES", 40_000)
    indexed = index(serve_http(folder))
    read: list[tuple[str, int]] = []
    kind = type(indexed.shards[0].storage)
    original = kind.read_version

    def counted(
        self: Storage, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        read.append((file.path, start))
        return original(self, file, start, stop)

    monkeypatch.setattr(kind, "read_version", counted)
    reader = SampleBytes(indexed)
    reader.hold(120)
    order = np.random.default_rng(0).permutation(120)
    for samples in np.split(order, 12):
        reader.read(samples, indexed.places["bin"])
    assert 0 < len(read) == len(set(read))


@pytest.fixture(params=[True, False], ids=["changed just now", "left alone"])
def write_first(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, bytes], None]:
    """Write a tar to be indexed: one that was changed just now, or long before."""

    def write(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        if request.param:
            return
        monkeypatch.setattr(indexed_shards, "SETTLED_NS", 0)
        other = path.with_name("clock")
        while not other.exists() or other.stat().st_ctime_ns == path.stat().st_ctime_ns:
            other.write_bytes(b"")  # until the file system's clock has moved on

    return write


def overwritten(folder: Path, members: list[tuple[str, bytes]], *, keep_time: bool) -> None:
    """Write another tar over the first one, in place, as rsync --inplace and cp do."""
    path = folder / "0.tar"
    was = path.stat()
    with open(path, "r+b") as file:
        file.truncate()
        file.write(make_tar(members))
    if keep_time:
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


WAS = [(f"{row:03d}.bin", b"%03d" % row * 500) for row in range(12)]
BECAME = {
    "shifted": [(f"{row + 1:03d}.bin", b"new" * 500) for row in range(12)],
    "swapped": [*WAS[:4], WAS[5], WAS[4], *WAS[6:]],
    "shorter": WAS[:5],
    "longer": [*WAS, ("x.bin", b"")],
    "other lengths": [*WAS[:4], ("004.bin", b"a" * 1501), *WAS[5:]],
    "other names": [(f"{name[:2]}_{name[3:]}", data) for name, data in WAS],
    "names that begin alike": [(f"{name[:-4]}0.bin", data) for name, data in WAS],
    "no tar": [],
}


@pytest.mark.parametrize(
    ("elsewhere", "write_first"),
    [(False, True), (False, False), (True, True)],
    indirect=["write_first"],
)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("name", BECAME)
def test_a_tar_that_was_overwritten_gives_no_bytes(
    tmp_path: Path,
    web_server: Callable[[Path], str],
    elsewhere: bool,
    is_open: bool,
    keep_time: bool,
    name: str,
    write_first: Callable[[Path, bytes], None],
) -> None:
    write_first(tmp_path / "0.tar", make_tar(WAS))
    url = web_server(tmp_path) if elsewhere else str(tmp_path)
    indexed = index_shards(open_shards(f"{url}/0.tar"), {"bin": ("bin",)})
    reader, places = SampleBytes(indexed), indexed.places["bin"]
    if is_open:
        assert reader.read(np.arange(8), places) == [data for _, data in WAS[:8]]
    overwritten(tmp_path, BECAME[name], keep_time=keep_time)
    for samples in (np.array([4]), np.arange(12), np.array([11, 4, 5])):
        told = f"{elsewhere} {is_open} {keep_time} {name} {samples}"
        try:
            found = reader.read(samples, places)
        except StaleError:
            continue
        # what was read before, or what no change of the tar has touched
        assert found == [WAS[sample][1] for sample in samples], told
        assert keep_time or is_open or elsewhere, told


def test_a_tar_of_the_same_size_and_time_has_its_headers_looked_at(
    tmp_path: Path, write_first: Callable[[Path, bytes], None]
) -> None:
    write_first(tmp_path / "0.tar", make_tar(WAS))
    indexed = index_shards(open_shards(f"{tmp_path}/0.tar"), {"bin": ("bin",)})
    reader, places = SampleBytes(indexed), indexed.places["bin"]
    reader.read(np.arange(8), places)
    overwritten(tmp_path, BECAME["swapped"], keep_time=True)
    for samples in ([4], [5], range(12)):
        with pytest.raises(StaleError, match=r"no component of 1500 bytes"):
            SampleBytes(indexed).read(np.array(samples), places)
        with pytest.raises(StaleError, match=r"no component of 1500 bytes"):
            reader.read(np.array([*samples, 11]), places)


def test_a_tar_that_is_renamed_away_is_read_on_by_whoever_has_it_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "0.tar").write_bytes(make_tar(WAS))
    indexed = index_shards(open_shards(f"{tmp_path}/0.tar"), {"bin": ("bin",)})
    reader, places = SampleBytes(indexed), indexed.places["bin"]
    assert reader.read(np.array([3]), places) == [WAS[3][1]]
    (tmp_path / "new").write_bytes(make_tar(BECAME["shifted"]))
    (tmp_path / "new").rename(tmp_path / "0.tar")
    assert reader.read(np.array([4]), places) == [WAS[4][1]]
    with pytest.raises(StaleError, match="was replaced"):
        SampleBytes(indexed).read(np.array([4]), places)


@pytest.mark.parametrize(
    "kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
)
@pytest.mark.parametrize(
    "stem", ["plain", "d" * 60 + "/" + "n" * 60, "ümläut", "a b", "./x"]
)
def test_names_of_every_form_are_found_again(tmp_path: Path, kind: int, stem: str) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=kind, encoding="utf-8") as tar:
        for row in range(3):
            member = tarfile.TarInfo(f"{stem}{row}.bin")
            member.size = 5
            tar.addfile(member, io.BytesIO(b"%05d" % row))
    indexed = index_shards(open_shards(f"{tmp_path}/0.tar"), {"bin": ("bin",)})
    found = SampleBytes(indexed).read(np.arange(3), indexed.places["bin"])
    assert found == [b"00000", b"00001", b"00002"]


def test_a_header_of_another_writer_is_understood(tmp_path: Path) -> None:
    tar = bytearray(make_tar(WAS))
    header = tarfile.TarInfo(WAS[4][0])
    header.size = 1500
    block = bytearray(header.tobuf())
    block[124:136] = b"      2734 \0"  # padded by blanks, as old tars are
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    at = tar.index(b"004.bin")
    tar[at : at + 512] = block
    (tmp_path / "0.tar").write_bytes(tar)
    indexed = index_shards(open_shards(f"{tmp_path}/0.tar"), {"bin": ("bin",)})
    found = SampleBytes(indexed).read(np.arange(12), indexed.places["bin"])
    assert found == [data for _, data in WAS]


def test_a_server_that_fails_for_a_while_costs_nothing(
    folder: Path, faulty: Callable[[str], FaultyProxy], serve_http: Callable[[Path], str]
) -> None:
    proxy = faulty(serve_http(folder))
    indexed = index(proxy.url)
    proxy.faults = ["503", "cut", "reset", "429"]
    found = SampleBytes(indexed).read(np.arange(120), indexed.places["bin"])
    assert found == expected(folder)
    assert not proxy.faults


def test_a_server_that_fails_for_good_is_told_with_the_sample(
    folder: Path,
    faulty: Callable[[str], FaultyProxy],
    serve_http: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "DEADLINE_SECONDS", 0.2)
    proxy = faulty(serve_http(folder))
    indexed = index(proxy.url)
    proxy.faults = ["503"] * 1000
    with pytest.raises(StorageError, match=r"1\.tar: sample 002: .*503.*\(asked \d"):
        SampleBytes(indexed).read(np.array([42, 50]), indexed.places["bin"])
