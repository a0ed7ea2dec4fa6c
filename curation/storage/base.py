"""What every storage does: a folder of files, read by range, written whole or not at all.

Paths are relative to the storage's root, with ``/`` between parts and no ``..``. Names
that begin with a dot are hidden: they are never listed, and unfinished writes have them.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from curation.errors import InputError

T = TypeVar("T")

COPY_BLOCK = 8 << 20  # bytes held at once while copying between unlike storages


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a listing says of one file."""

    path: str
    """Relative to the storage's root."""
    size: int
    """In bytes."""
    version: str
    """Differs whenever the content was replaced: an ETag on S3, the time of the last
    change in nanoseconds in a local folder."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``[start, stop)`` of one stored file."""

    storage: "Storage"
    path: str
    start: int
    stop: int


Part = bytes | ByteRange
"""A piece of a file that is being put together: literal bytes, or a range of another."""


class Storage(ABC):
    """A folder of files, somewhere.

    Members are frozen dataclasses of settings, so that a storage can be sent to another
    process and compares equal to another one of the same place. Every method raises
    :class:`~curation.errors.NotFoundError` for a file that isn't there,
    :class:`~curation.errors.InputError` for a path or place that can't be used, and
    :class:`~curation.errors.StorageError` for a failure that may pass.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Where this is, as a person would write it: a local path or ``s3://…``."""

    @abstractmethod
    def list_files(self, folder: str = "", suffix: str = "") -> list[StoredFile]:
        """List the files under ``folder``, sub-folders too, sorted by path.

        A folder that does not exist is an empty one. Hidden files are left out.
        """

    @abstractmethod
    def stat(self, path: str) -> StoredFile:
        """Look up one file's size and version."""

    @abstractmethod
    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes ``[start, stop)``; fewer where the file ends before ``stop``."""

    @abstractmethod
    def open_reader(self, path: str) -> BinaryIO:
        """Open a file for reading from any position; the caller closes it."""

    @abstractmethod
    def open_writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that appears under ``path`` when the block ends without an error.

        Until then, and after an error, readers see what was there before.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove one file; one that isn't there is no error."""

    def local_path(self, path: str) -> Path | None:
        """Give the file's place in the local file system, or None where it has none."""
        return None

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a whole file at once, in place of one that is there."""
        with self.open_writer(path) as file:
            file.write(data)

    def write_parts(self, path: str, parts: Iterable[Part]) -> None:
        """Put a file together from literal bytes and ranges of other files, in order.

        Ranges keep their bytes exactly. A storage overrides this where it can copy
        without moving the bytes through the process.
        """
        with self.open_writer(path) as file:
            for part in parts:
                for block in part_blocks(part):
                    file.write(block)

    def exists(self, path: str) -> bool:
        """Tell whether a file is there."""
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True


def once_per_process(owner: object, name: str, make: Callable[[], T]) -> T:
    """Make something once in each process, and keep it as an attribute of its owner.

    For connections: a forked worker of a data loader can't use those of its parent. Where
    threads come together, all get the same one.
    """
    made: dict[int, T] = vars(owner).setdefault(name, {})
    process = os.getpid()
    if process not in made:
        made.setdefault(process, make())  # atomic: of two threads' makes, one stays
    return made[process]


def part_blocks(part: Part) -> Iterator[bytes]:
    """Read a part in blocks of at most 8 MiB.

    Raises:
        InputError: A range reaches past the end of its file.
    """
    if isinstance(part, bytes):
        yield part
        return
    position = part.start
    while position < part.stop:
        stop = min(position + COPY_BLOCK, part.stop)
        block = part.storage.read(part.path, position, stop)
        if len(block) != stop - position:
            raise past_the_end(part, found_size=position + len(block))
        yield block
        position = stop


def past_the_end(part: ByteRange, *, found_size: int) -> InputError:
    """Say that a range does not fit the file that it is a range of."""
    return InputError(
        f"{part.path} in {part.storage.url}: bytes {part.start} to {part.stop} were asked "
        f"for, but the file ends at {found_size}; it changed since it was indexed"
    )


def checked_path(path: str) -> str:
    """Return ``path`` if it names a file inside a storage.

    Raises:
        InputError: It is empty or absolute, or has ``.``, ``..`` or empty parts.
    """
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            f"{path!r} is no path inside a storage: expected names with single slashes "
            "between them, none of them '.' or '..'"
        )
    return path


def is_hidden(path: str) -> bool:
    """Tell whether a path has a part that begins with a dot."""
    return any(part.startswith(".") for part in PurePosixPath(path).parts)
