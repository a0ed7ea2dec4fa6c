"""A copy is of one version, whole or absent, and never more than there is room for."""

import os
import pickle
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from curation.errors import InputError, NotFoundError
from curation.index import build_index
from curation.samples import read_samples
from curation.storage import LocalCopies, LocalStorage, MemoryStorage, S3Storage, Storage
from curation.storage import local_copies as module
from curation.tar import read_members
from curation.testing.image_shards import make_tar

DATA = bytes(range(256)) * 40


@dataclass(frozen=True)
class Remote(MemoryStorage):
    """Counts the bytes that it gives."""

    given: list[int] = field(default_factory=list)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        data = super().read(path, start, stop)
        self.given.append(len(data))
        return data


@pytest.fixture
def remote() -> Remote:
    remote = Remote()
    remote.write("a.tar", DATA)
    return remote


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCopies:
    monkeypatch.setattr(module, "BLOCK", 1000)
    return LocalCopies(tmp_path / "copies", 30_000)


def held(copies: LocalCopies) -> list[Path]:
    return sorted(path for path in copies.folder.iterdir() if path.name != ".lock")


def test_a_tar_that_is_indexed_and_read_is_fetched_once(copies: LocalCopies) -> None:
    remote = Remote()
    tar = make_tar(
        [(f"{i:03d}.{kind}", DATA[: 40 * i]) for i in range(50) for kind in "ab"]
    )
    remote.write("a.tar", tar)
    copies = LocalCopies(copies.folder, len(tar))
    source = copies.fetch(remote, "a.tar")
    index = build_index(read_members(source, "a.tar"))
    again = copies.fetch(remote, "a.tar")
    found = list(read_samples(again, "a.tar", index, ["a", "b"]))
    assert [sample.contents["b"] for sample in found] == [DATA[: 40 * i] for i in range(50)]
    assert sum(remote.given) == len(tar)


@pytest.mark.parametrize(
    "cut", [(0, None), (5, 7), (9_000, 99_999), (7, 7), (20_000, 20_001)]
)
def test_reads_what_the_origin_reads(
    remote: Remote, copies: LocalCopies, cut: tuple[int, int | None]
) -> None:
    source = pickle.loads(pickle.dumps(copies.fetch(remote, "a.tar")))
    before = len(remote.given)
    assert source.read("a.tar", *cut) == DATA[cut[0] : cut[1]]
    with source.open_reader("a.tar") as file:
        file.seek(cut[0])
        assert file.read() == DATA[cut[0] :]
    assert len(remote.given) == before
    assert source.stat("a.tar") == remote.stat("a.tar")
    assert source.list_files() == remote.list_files()
    assert source.url == remote.url


def test_other_files_and_lost_copies_come_from_the_origin(
    remote: Remote, copies: LocalCopies
) -> None:
    remote.write("b", b"other")
    source = copies.fetch(remote, "a.tar")
    assert source.read("b") == source.open_reader("b").read() == b"other"
    copies.drop(source)
    assert held(copies) == []
    assert source.read("a.tar") == source.open_reader("a.tar").read() == DATA
    copies.drop(source)
    copies.drop(remote)


def test_another_version_is_another_copy(remote: Remote, copies: LocalCopies) -> None:
    old = copies.fetch(remote, "a.tar")
    remote.write("a.tar", DATA[::-1])
    assert copies.fetch(remote, "a.tar").read("a.tar") == DATA[::-1]
    assert old.read("a.tar") == DATA
    assert old.stat("a.tar") == remote.stat("a.tar")  # by which readers see the change


def test_a_file_that_is_replaced_while_it_is_fetched_is_not_kept(
    copies: LocalCopies,
) -> None:
    class Replaced(Remote):
        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            if start == 3000:
                self.write(path, DATA[::-1])
            return super().read(path, start, stop)

    remote = Replaced()
    remote.write("a.tar", DATA)
    assert copies.fetch(remote, "a.tar") is remote
    assert held(copies) == []


def test_without_room_the_origin_is_read(remote: Remote, copies: LocalCopies) -> None:
    for name in ("b", "c", "d"):
        remote.write(name, DATA)
    assert [copies.fetch(remote, name) is remote for name in ("b", "c", "d")] == [
        False,
        False,
        True,
    ]
    assert sum(path.stat().st_size for path in held(copies)) <= copies.max_bytes
    assert LocalCopies(copies.folder / "none", 0).fetch(remote, "b") is remote


def test_what_nobody_reads_makes_room(remote: Remote, copies: LocalCopies) -> None:
    for name in ("b", "c", "d"):
        remote.write(name, DATA)
    copies.fetch(remote, "b")
    (copies.folder / f"0{module.PART}").write_bytes(DATA)  # of a process that was killed
    long_ago = time.time() - 2 * module.FORGOTTEN_SECONDS
    for path in held(copies):
        os.utime(path, (long_ago, long_ago))
    kept = copies.fetch(remote, "b")  # which is used again, and so not forgotten
    for name in ("c", "d"):
        last = copies.fetch(remote, name)
    assert len(held(copies)) == 2
    assert last is remote
    assert kept.read("a.tar") == DATA
    before = len(remote.given)
    assert kept.read("b") == DATA
    assert len(remote.given) == before


def test_what_can_not_be_fetched_is_said_by_whoever_reads(copies: LocalCopies) -> None:
    remote = Remote()
    source = copies.fetch(remote, "gone")
    assert source is remote
    with pytest.raises(NotFoundError):
        source.read("gone")


def test_a_file_of_this_machine_needs_no_copy(tmp_path: Path, copies: LocalCopies) -> None:
    local = LocalStorage(tmp_path)
    local.write("a", b"x")
    assert copies.fetch(local, "a") is local


def test_many_threads_take_no_more_than_the_room(
    remote: Remote, copies: LocalCopies
) -> None:
    names = [f"{number}.tar" for number in range(12)]
    for name in names:
        remote.write(name, DATA)
    found: dict[str, Storage] = {}

    def fetch(name: str) -> None:
        found[name] = copies.fetch(remote, name)

    threads = [threading.Thread(target=fetch, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[name].read(name) == DATA for name in names)
    assert len(held(copies)) == 2


def test_a_source_is_not_written_to(remote: Remote, copies: LocalCopies) -> None:
    source = copies.fetch(remote, "a.tar")
    with pytest.raises(InputError, match="only read"):
        source.write("a.tar", b"")
    with pytest.raises(InputError, match="only read"):
        source.create("b.tar", b"")
    with pytest.raises(InputError, match="only read"):
        source.delete("a.tar")


def test_copies_of_objects_on_a_server(s3_storage: S3Storage, tmp_path: Path) -> None:
    data = os.urandom(20 << 20)  # three requests
    s3_storage.write("a.tar", data)
    source = LocalCopies(tmp_path / "copies", 1 << 30).fetch(s3_storage, "a.tar")
    assert source is not s3_storage
    assert source.read("a.tar") == data
    assert source.read("a.tar", 5, 9 << 20) == data[5 : 9 << 20]
