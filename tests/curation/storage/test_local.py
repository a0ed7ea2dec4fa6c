"""Local folders do what every storage does, and say what stands in the way."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import InputError, PathError, StorageError
from curation.storage import ByteRange, Listing, LocalStorage, MemoryStorage, Storage
from curation.storage.local import MOST_OPEN
from curation.testing.storage_contract import CreatesContract
from tests.permissions import permissions_bind


class TestLocalStorage(CreatesContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalStorage:
        return LocalStorage(tmp_path / "root")

    def put(self, storage: Storage, path: str, data: bytes) -> None:
        place = Path(storage.url) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def get(self, storage: Storage, path: str) -> bytes | None:
        place = Path(storage.url) / path
        return place.read_bytes() if place.is_file() else None


def test_a_file_in_the_place_of_a_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(InputError, match=r"taken.*choose another folder"):
        LocalStorage(tmp_path / "taken").write("a", b"")


def test_an_unfinished_write_leaves_no_file_behind(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with pytest.raises(ZeroDivisionError), storage.open_writer("a") as file:
        file.write(b"x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["write", "write_parts", "copy"])
def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What is synced, and named, in which order: as crash-safe writers must."""
    storage = LocalStorage(tmp_path)
    storage.write("from", b"data")
    events: list[tuple[str, Path]] = []
    sync, rename, mkdir = os.fsync, Path.replace, Path.mkdir

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        events.append(("synced", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def note_rename(self: Path, target: Path) -> Path:
        events.append(("named", target))
        return rename(self, target)

    def note_mkdir(self: Path, *args: int, **options: bool) -> None:
        mkdir(self, *args, **options)
        events.append(("made", self))

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    monkeypatch.setattr(Path, "mkdir", note_mkdir)
    place = tmp_path / "a" / "b" / "c"
    if way == "write":
        storage.write("a/b/c", b"data")
    elif way == "write_parts":
        storage.write_parts("a/b/c", [ByteRange(storage, "from", 0, 4)])
    else:
        storage.copy("from", "a/b/c")
    if way != "copy":  # a link to a file that is on the disk already needs no sync of it
        kind, synced = events.pop(4)
        assert kind == "synced" and synced.parent == place.parent
    assert events == [
        *(("made", tmp_path / "a"), ("synced", tmp_path)),
        *(("made", tmp_path / "a" / "b"), ("synced", tmp_path / "a")),
        *(("named", place), ("synced", place.parent)),
    ]


def test_a_file_that_cannot_be_synced_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full or broken may say so only then."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    storage = LocalStorage(tmp_path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"Input/output error.*try again"):
        storage.write("a", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_sync_folders_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    LocalStorage(tmp_path).write("a/b", b"data")
    assert (tmp_path / "a" / "b").read_bytes() == b"data"


def test_an_error_about_another_file_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError) as caught,
        LocalStorage(tmp_path / "here").open_writer("a"),
    ):
        (tmp_path / "elsewhere" / "b").read_bytes()
    assert type(caught.value) is FileNotFoundError


def test_parts_of_another_storage_are_copied(tmp_path: Path) -> None:
    memory = MemoryStorage()
    memory.write("m", b"memory")
    local = LocalStorage(tmp_path)
    local.write("l", b"local")
    local.write_parts("to", [ByteRange(memory, "m", 0, 3), ByteRange(local, "l", 1, 5)])
    assert local.read("to") == b"memocal"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts them in /proc")
def test_a_file_of_thousands_of_others_has_few_of_them_open(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    names = [f"{number:04d}" for number in range(2000)]
    for name in names:
        storage.write(name, name.encode())
    found = []

    def count_open() -> None:
        found.append(len(list(Path("/proc/self/fd").iterdir())))

    count_open()
    parts = [ByteRange(storage, name, 0, 4) for name in names]
    storage.write_parts("all", [*parts, *parts[:10]], count_open)
    assert storage.read("all").decode() == "".join(names + names[:10])
    assert found[1] - found[0] <= MOST_OPEN + 1


def test_a_copy_shares_its_bytes(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("from", b"data")
    storage.copy("from", "to")
    assert (tmp_path / "from").stat().st_ino == (tmp_path / "to").stat().st_ino
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "to"]


def test_without_hard_links_a_copy_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here", "from")

    monkeypatch.setattr(os, "link", refuse)
    storage = LocalStorage(tmp_path)
    storage.write("from", b"data")
    storage.copy("from", "to")
    assert storage.read("to") == b"data"


def told(listing: Listing) -> dict[str, str]:
    return {entry.path: entry.reason for entry in listing.unusable}


ODD_ENTRIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "to itself": (lambda at: at.symlink_to(at.name), "Too many levels"),
    "to its folder": (lambda at: at.symlink_to("."), "a link to a folder that it is in"),
    "to the root": (lambda at: at.symlink_to("../.."), "a folder that it is in"),
    "to nothing": (lambda at: at.symlink_to("gone"), "a link to gone, which is not there"),
    "to a long name": (lambda at: at.symlink_to("n" * 300), "File name too long"),
    "unreadable": (lambda at: at.mkdir(0), "Permission denied"),
    "a pipe": (os.mkfifo, "neither a file nor a folder"),
}


@pytest.mark.parametrize("kind", ODD_ENTRIES)
def test_an_odd_entry_costs_itself_and_is_named(tmp_path: Path, kind: str) -> None:
    make, reason = ODD_ENTRIES[kind]
    storage = LocalStorage(tmp_path)
    for path in ("a/b/1.tar", "a/c/2.tar", "d/3.tar"):
        storage.write(path, b"x")
    for name in ("odd.tar", b"\xff.tar"):
        make(tmp_path / "a/b" / os.fsdecode(name))
    with permissions_bind():
        listing = storage.survey(suffix=".tar")
    assert [file.path for file in listing.files] == ["a/b/1.tar", "a/c/2.tar", "d/3.tar"]
    reasons = told(listing)
    assert list(reasons) == ["a/b/\\xff.tar", "a/b/odd.tar"]
    assert reason in reasons["a/b/odd.tar"]
    assert storage.list_files() == listing.files


def test_links_to_folders_and_files_elsewhere_are_followed(tmp_path: Path) -> None:
    elsewhere = LocalStorage(tmp_path / "elsewhere")
    elsewhere.write("sub/1.tar", b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to("../elsewhere")
    (root / "b").symlink_to("../elsewhere/sub")
    (root / "c.tar").symlink_to("../elsewhere/sub/1.tar")
    listing = LocalStorage(root).survey()
    assert [f.path for f in listing.files] == ["a/sub/1.tar", "b/1.tar", "c.tar"]
    assert listing.unusable == []


def test_a_deep_folder_is_listed(tmp_path: Path) -> None:
    deep = "/".join("d" * 400)
    LocalStorage(tmp_path).write(f"{deep}/1.tar", b"x")
    assert [f.path for f in LocalStorage(tmp_path).list_files()] == [f"{deep}/1.tar"]


def test_a_folder_that_may_not_be_listed_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir(0)
    with permissions_bind(), pytest.raises(InputError, match="top: Permission denied"):
        LocalStorage(tmp_path / "top").survey()


def test_a_file_that_may_not_be_read_costs_itself(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", b"x")
    (tmp_path / "a").chmod(0)
    with permissions_bind():
        for read in (storage.read, storage.open_reader):
            with pytest.raises(PathError, match="a: Permission denied"):
                read("a")


def test_a_name_may_be_as_long_as_the_file_system_has_them(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    longest = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    storage.write(longest, b"x")
    storage.copy(longest, longest[:-1] + "m")
    assert storage.read(longest[:-1] + "m") == b"x"
    with pytest.raises(PathError, match="File name too long; give it a shorter name"):
        storage.write(longest + "n", b"x")


def _write_and_die(root: Path, path: str) -> None:
    with LocalStorage(root).open_writer(path) as file:
        file.write(b"begun")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_unfinished_is_found_and_discarded(
    tmp_path: Path,
) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a/.hidden", b"of somebody")
    storage.write("a/.mine.part", b"of somebody else")
    for path in ("top.tar", "a/b/below.tar"):
        process = multiprocessing.get_context("fork").Process(
            target=_write_and_die, args=(tmp_path, path)
        )
        process.start()
        process.join()
    (file,) = storage.unfinished("a")
    assert file.path.startswith("a/b/.")
    assert file.size == len(b"begun")
    found = storage.unfinished()
    assert [one.path.rpartition("/")[0] for one in found] == ["", "a/b"]
    for one in found:
        storage.discard(one)
        storage.discard(one)
    assert storage.unfinished() == []
    assert (tmp_path / "a" / ".mine.part").exists()
