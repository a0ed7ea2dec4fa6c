"""Bytes of samples in any order, against tarfile, from here and from elsewhere."""

import os
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.testing.image_shards import make_tar
from curation.training import sample_bytes
from curation.training.indexed_shards import IndexedShards, index_shards
from curation.training.sample_bytes import SampleBytes
from curation.training.shard_urls import open_shards

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
    original = kind.read

    def counted(self: object, path: str, start: int = 0, stop: int | None = None) -> bytes:
        read.append((path, start))
        return original(self, path, start, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "read", counted)
    reader = SampleBytes(indexed)
    reader.hold(120)
    order = np.random.default_rng(0).permutation(120)
    for samples in np.split(order, 12):
        reader.read(samples, indexed.places["bin"])
    assert len(read) == len(set(read))
