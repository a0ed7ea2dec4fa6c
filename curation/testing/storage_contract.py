"""What every storage must do, as tests that a member's test class inherits."""

import pickle
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from curation.errors import InputError, NotFoundError, StaleError
from curation.storage.base import ByteRange, Part, Storage

BAD_PATHS = ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a/.", "a\0b"]


class StorageContract(ABC):
    """Subclass it as ``Test…`` and say how to make an empty storage.

    ``put`` and ``get`` must not use the storage's own methods, so that a fault in writing
    can't hide one in reading.
    """

    @abstractmethod
    @pytest.fixture
    def storage(self) -> Storage:
        """Give an empty storage."""

    @abstractmethod
    def put(self, storage: Storage, path: str, data: bytes) -> None:
        """Store a file by other means."""

    @abstractmethod
    def get(self, storage: Storage, path: str) -> bytes | None:
        """Fetch a file by other means; None if it isn't there."""

    def test_reads_what_was_put(self, storage: Storage) -> None:
        self.put(storage, "a/b.bin", b"0123456789")
        assert storage.read("a/b.bin") == b"0123456789"
        assert storage.read("a/b.bin", 3) == b"3456789"
        assert storage.read("a/b.bin", 3, 5) == b"34"

    def test_a_range_ends_with_the_file(self, storage: Storage) -> None:
        self.put(storage, "a", b"0123456789")
        assert storage.read("a", 8, 100) == b"89"
        assert storage.read("a", 10, 20) == b""
        assert storage.read("a", 50, 60) == b""
        assert storage.read("a", 5, 5) == b""

    def test_bytes_of_a_version_are_read_only_of_that(self, storage: Storage) -> None:
        self.put(storage, "a", b"0123456789")
        file = storage.stat("a")
        assert storage.read_version(file) == b"0123456789"
        assert storage.read_version(file, 3, 5) == b"34"
        assert storage.read_version(file, 8, 100) == b"89"
        assert storage.read_version(file, 20, 30) == b""
        assert storage.read_version(file, 5, 5) == b""
        self.put(storage, "a", b"9876543210")
        with pytest.raises(StaleError, match="/a: 10 bytes of version"):
            storage.read_version(file, 3, 5)
        self.put(storage, "a", b"0123")
        with pytest.raises(StaleError, match="found 4 bytes"):
            storage.read_version(file, 3, 5)

    def test_writes_what_get_finds(self, storage: Storage) -> None:
        storage.write("x/y/z.bin", b"abc")
        assert self.get(storage, "x/y/z.bin") == b"abc"
        storage.write("x/y/z.bin", memoryview(b"replaced"))
        assert self.get(storage, "x/y/z.bin") == b"replaced"

    def test_what_is_created_replaces_nothing(self, storage: Storage) -> None:
        assert storage.create("a/b", b"mine") == b"mine"
        assert storage.create("a/b", b"mine") == b"mine"
        assert storage.create("a/b", b"other") == b"mine"
        assert self.get(storage, "a/b") == b"mine"
        assert [file.path for file in storage.list_files()] == ["a/b"]
        storage.delete("a/b")
        assert storage.create("a/b", b"other") == b"other"

    @pytest.mark.parametrize("size", [0, 5, 12 << 20])
    def test_a_copy_is_a_file_of_its_own(self, storage: Storage, size: int) -> None:
        data = b"x" * size
        self.put(storage, "a/from", data)
        storage.write("to", b"is replaced")
        storage.copy("a/from", "to")
        storage.copy("a/from", "to")
        assert self.get(storage, "to") == data
        storage.write("a/from", b"other")
        assert self.get(storage, "to") == data
        storage.delete("a/from")
        assert [file.path for file in storage.list_files()] == ["to"]

    def test_a_copy_of_nothing_is_an_error(self, storage: Storage) -> None:
        with pytest.raises(NotFoundError):
            storage.copy("nothing", "to")
        assert self.get(storage, "to") is None

    def test_an_empty_file_is_a_file(self, storage: Storage) -> None:
        storage.write("empty", b"")
        assert self.get(storage, "empty") == b""
        assert storage.stat("empty").size == 0
        assert storage.read("empty") == b""

    def test_a_large_file_survives(self, storage: Storage) -> None:
        data = bytes(range(256)) * (12 << 12)  # 12 MiB: several parts of an upload
        with storage.open_writer("large") as file:
            for start in range(0, len(data), 1 << 20):
                file.write(data[start : start + (1 << 20)])
        assert self.get(storage, "large") == data
        assert storage.read("large", len(data) - 3) == data[-3:]

    def test_an_interrupted_write_leaves_what_was_there(self, storage: Storage) -> None:
        self.put(storage, "kept", b"before")
        for path in ("kept", "new"):
            with pytest.raises(KeyboardInterrupt), storage.open_writer(path) as file:
                file.write(b"half" * (3 << 20))
                raise KeyboardInterrupt
        assert self.get(storage, "kept") == b"before"
        assert self.get(storage, "new") is None
        assert [file.path for file in storage.list_files()] == ["kept"]

    def test_an_error_of_the_writer_passes_through(self, storage: Storage) -> None:
        with pytest.raises(ZeroDivisionError), storage.open_writer("a"):
            _ = 1 // 0

    def test_what_is_whole_is_not_unfinished(self, storage: Storage) -> None:
        storage.write("a/b", b"whole")
        storage.write("c", b"x" * (12 << 20))
        with pytest.raises(ZeroDivisionError), storage.open_writer("a/d") as file:
            file.write(b"x" * (12 << 20))
            _ = 1 // 0
        assert storage.unfinished() == []
        assert storage.unfinished("a") == []

    def test_stat_has_size_and_a_version_that_changes(self, storage: Storage) -> None:
        self.put(storage, "a", b"one")
        first = storage.stat("a")
        assert (first.path, first.size) == ("a", 3)
        assert storage.stat("a") == first
        storage.write("a", b"two")
        assert storage.stat("a").version != first.version

    def test_files_are_written_at_times_in_the_order_of_writing(
        self, storage: Storage
    ) -> None:
        for path in ("b", "a", "c"):
            storage.write(path, b"")
        times = {file.path: file.written_ns for file in storage.list_files()}
        assert 0 < times["b"] <= times["a"] <= times["c"]
        assert times == {path: storage.stat(path).written_ns for path in times}

    def test_lists_every_file_sorted(self, storage: Storage) -> None:
        for path in ("b.tar", "a/2.tar", "a/10.tar", "a/2.idx", "a.tar", "a/c/d.tar"):
            self.put(storage, path, path.encode())
        listed = storage.list_files()
        assert [f.path for f in listed] == sorted(f.path for f in listed)
        assert len(listed) == 6
        assert listed == [storage.stat(f.path) for f in listed]

    def test_lists_a_folder_and_a_suffix(self, storage: Storage) -> None:
        for path in ("a/1.tar", "a/1.idx", "ab/2.tar", "3.tar"):
            self.put(storage, path, b"")
        assert [f.path for f in storage.list_files("a")] == ["a/1.idx", "a/1.tar"]
        assert [f.path for f in storage.list_files("a", ".tar")] == ["a/1.tar"]
        assert storage.list_files("nowhere") == []

    def test_does_not_list_hidden_files(self, storage: Storage) -> None:
        for path in (".hidden", "a/.b.part", ".c/d", "seen"):
            self.put(storage, path, b"")
        assert [f.path for f in storage.list_files()] == ["seen"]

    def test_a_missing_file_is_not_found(self, storage: Storage) -> None:
        for call in (storage.read, storage.stat, storage.open_reader):
            with pytest.raises(NotFoundError, match=r"nowhere/x"):
                call("nowhere/x")
        with pytest.raises(NotFoundError):
            storage.read("nowhere/x", 5, 5)
        assert not storage.exists("nowhere/x")

    def test_a_folder_is_no_file(self, storage: Storage) -> None:
        self.put(storage, "folder/a", b"")
        assert not storage.exists("folder")

    def test_delete_removes_and_forgives(self, storage: Storage) -> None:
        self.put(storage, "a", b"")
        storage.delete("a")
        assert self.get(storage, "a") is None
        storage.delete("a")

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_a_path_outside_is_refused(self, storage: Storage, path: str) -> None:
        for call in (storage.read, storage.stat, storage.delete, storage.open_reader):
            with pytest.raises(InputError, match="no path inside a storage"):
                call(path)
        with pytest.raises(InputError, match="no path inside a storage"):
            storage.write(path, b"")

    def test_names_with_odd_characters_survive(self, storage: Storage) -> None:
        for path in ("sp ace/ü.bin", "a+b&c=d%20.bin", "emoji-🦆"):
            storage.write(path, path.encode())
            assert storage.read(path) == path.encode()
            storage.copy(path, f"copied/{path}")
            assert storage.read(f"copied/{path}") == path.encode()
        assert len(storage.list_files()) == 6

    def test_a_reader_seeks(self, storage: Storage) -> None:
        self.put(storage, "a", bytes(range(100)))
        with storage.open_reader("a") as file:
            file.seek(90)
            assert file.read(5) == bytes(range(90, 95))
            file.seek(-2, 2)
            assert file.read() == bytes([98, 99])

    def test_parts_are_put_together_in_order(self, storage: Storage) -> None:
        self.put(storage, "from/a", b"0123456789")
        self.put(storage, "from/b", b"abcdef")
        parts: list[Part] = [
            b"<",
            ByteRange(storage, "from/a", 2, 5),
            ByteRange(storage, "from/b", 0, 6),
            ByteRange(storage, "from/a", 0, 0),
            b">",
        ]
        storage.write_parts("to", parts)
        assert self.get(storage, "to") == b"<234abcdef>"

    def test_large_parts_keep_their_bytes(self, storage: Storage) -> None:
        data = bytes(range(251)) * 90_000  # 22 MB, of no power of two
        self.put(storage, "from", data)
        cuts = [(7, 100), (0, 6_000_001), (6_000_001, 6_000_100), (9_000_000, len(data))]
        storage.write_parts("to", [ByteRange(storage, "from", *cut) for cut in cuts])
        assert self.get(storage, "to") == b"".join(data[a:b] for a, b in cuts)

    def test_a_part_past_the_end_writes_nothing(self, storage: Storage) -> None:
        self.put(storage, "from", b"0123456789")
        with pytest.raises(InputError, match=r"ends at 10"):
            storage.write_parts("to", [b"x", ByteRange(storage, "from", 5, 11)])
        assert self.get(storage, "to") is None

    @pytest.mark.parametrize("size", [10, 12 << 20])
    def test_a_part_of_a_version_is_copied_only_of_that(
        self, storage: Storage, size: int
    ) -> None:
        self.put(storage, "from", b"1" * size)
        file = storage.stat("from")
        parts: list[Part] = [b"x", ByteRange(storage, "from", 0, size, file)]
        storage.write_parts("to", parts)
        assert self.get(storage, "to") == b"x" + b"1" * size
        self.put(storage, "from", b"2" * size)
        with pytest.raises(StaleError, match="replaced"):
            storage.write_parts("to", parts)
        assert self.get(storage, "to") == b"x" + b"1" * size

    def test_a_check_that_fails_keeps_the_file_from_appearing(
        self, storage: Storage
    ) -> None:
        self.put(storage, "from", bytes(12 << 20))

        def fail() -> None:
            raise InputError("the source changed")

        with pytest.raises(InputError, match="the source changed"):
            storage.write_parts("to", [ByteRange(storage, "from", 0, 12 << 20)], fail)
        assert self.get(storage, "to") is None
        assert [file.path for file in storage.list_files()] == ["from"]

    def test_can_be_sent_to_another_process(self, storage: Storage) -> None:
        self.put(storage, "a", b"1")
        copy = pickle.loads(pickle.dumps(storage))
        assert copy == storage
        assert copy.read("a") == b"1"


class CreatesContract(StorageContract):
    """Of a storage that never replaces a file it is to create, however many try at once."""

    def test_of_many_that_create_one_file_one_does(self, storage: Storage) -> None:
        names = [str(number).encode() for number in range(8)]
        with ThreadPoolExecutor(len(names)) as threads:
            for turn in range(5):
                create = partial(storage.create, f"file {turn}")
                found = set(threads.map(create, names))
                assert found == {self.get(storage, f"file {turn}")}
