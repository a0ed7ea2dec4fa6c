"""Local folders do what every storage does, and say what stands in the way."""

import errno
import os
from pathlib import Path

import pytest

from curation.errors import InputError
from curation.storage import ByteRange, LocalStorage, MemoryStorage, Storage
from curation.storage.local import MOST_OPEN
from curation.testing.storage_contract import StorageContract


class TestLocalStorage(StorageContract):
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
