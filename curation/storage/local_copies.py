"""Local copies of remote files, so that a tar that is read twice is fetched once.

Copies are of one version of a file, whole or absent, in a folder of bounded size that
processes of one machine share. Whether a file is what it was is still asked of where it
comes from: a copy changes how fast bytes come, never which.
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from typing import BinaryIO

from curation.errors import CurationError, InputError, StorageError
from curation.storage.base import Listing, Storage, StoredFile, Suffix, run_ahead

BLOCK = 8 << 20  # bytes of one request
BLOCKS_AHEAD = 4  # on their way at once; one is rarely as fast as the line
LEAST_FREE = 1 << 30  # bytes that are left to others on the disk
FORGOTTEN_SECONDS = 3600.0  # without being read, after which a copy makes room
PART = ".part"
TRIES = 3  # of a file of which bits flip on the way

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalCopies:
    """A folder of copies. Can be sent to another process."""

    folder: Path
    max_bytes: int
    """Of all copies together."""

    def fetch(self, storage: Storage, path: str) -> Storage:
        """Give a storage that reads one file from a local copy, which is made if need be.

        The storage itself is given where there is nothing to gain: the file is on this
        machine, there is no room for it, or it can't be fetched, which whoever reads it
        will say better.
        """
        if storage.local_path(path) is not None:
            return storage
        with suppress(CurationError, OSError):
            file = storage.stat(path)
            copy = self.folder / _name(storage, file)
            if _touched(copy) or self._make(storage, file, copy):
                return WithLocalCopy(storage, path, copy)
        return storage

    def drop(self, storage: Storage) -> None:
        """Delete the copy that a storage reads from, if it does."""
        if isinstance(storage, WithLocalCopy):
            storage.copy_path.unlink(missing_ok=True)

    def _make(self, storage: Storage, file: StoredFile, copy: Path) -> bool:
        """Fetch a file; tell whether it is there now, and was not replaced meanwhile."""
        part = copy.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}{PART}")
        if not self._reserve(part, file.size):
            return False
        try:
            if not _fetched(storage, file, part) or storage.stat(file.path) != file:
                return False
            with self._locked():  # else who counts what there is could count neither name
                part.replace(copy)
            return True
        finally:
            part.unlink(missing_ok=True)

    def _reserve(self, part: Path, size: int) -> bool:
        """Take room for a file, by a hole of its size; tell whether there is any."""
        with self._locked():
            if self._room() < size:
                self._forget()
            if self._room() < size:
                return False
            with open(part, "wb") as file:
                file.truncate(size)
            return True

    def _room(self) -> int:
        taken = sum(stat.st_size for _, stat in self._files())
        free = shutil.disk_usage(self.folder).free - LEAST_FREE
        return min(self.max_bytes - taken, free)

    def _forget(self) -> None:
        """Delete what was not read for long, such as what a killed process left."""
        for path, stat in self._files():
            if time.time() - stat.st_mtime > FORGOTTEN_SECONDS:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("[0-9a-f]*"):
            with suppress(FileNotFoundError):  # another process may just have dropped it
                yield path, path.stat()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.folder / ".lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class WithLocalCopy(Storage):
    """A storage, one file of which is read from a copy as long as that is there."""

    origin: Storage
    copied: str
    """Path of the file."""
    copy_path: Path

    @property
    def url(self) -> str:
        return self.origin.url

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        return self.origin.survey(folder, suffix)

    def stat(self, path: str) -> StoredFile:
        return self.origin.stat(path)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if path == self.copied:
            with suppress(FileNotFoundError), open(self.copy_path, "rb") as file:
                file.seek(start)
                return file.read(-1 if stop is None else max(stop - start, 0))
        return self.origin.read(path, start, stop)

    def read_version(
        self, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        # a copy is named after the version that it is of
        if self.copy_path.name == _name(self.origin, file):
            with suppress(FileNotFoundError), open(self.copy_path, "rb") as copied:
                copied.seek(start)
                return copied.read(-1 if stop is None else max(stop - start, 0))
        return self.origin.read_version(file, start, stop)

    def open_reader(self, path: str) -> BinaryIO:
        if path == self.copied:
            with suppress(FileNotFoundError):
                return open(self.copy_path, "rb")
        return self.origin.open_reader(path)

    def open_writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        raise self._read_only(path)

    def create(self, path: str, data: bytes) -> bytes:
        raise self._read_only(path)

    def delete(self, path: str) -> None:
        raise self._read_only(path)

    def _read_only(self, path: str) -> InputError:
        return InputError(f"{self.url}/{path}: a source is only read, never written to")


def _fetched(storage: Storage, file: StoredFile, part: Path) -> bool:
    """Fetch a file into another; tell whether all its bytes are right, as far as is known.

    A tar is fetched by ranges, which S3 has no checksums of, so the whole is compared.
    """
    for _ in range(TRIES):
        starts = range(0, file.size, BLOCK)
        reads = (partial(storage.read_version, file, s, s + BLOCK) for s in starts)
        digest = md5(usedforsecurity=False)
        with open(part, "r+b") as target:
            for block in run_ahead(reads, BLOCKS_AHEAD):
                target.write(block)
                digest.update(block)
            if target.tell() != file.size:
                return False
        try:
            storage.check_md5(file, digest.hexdigest())
        except StorageError as error:
            log.warning("%s; fetching it again", error)
        else:
            return True
    return False


def _name(storage: Storage, file: StoredFile) -> str:
    """Name a copy by all that tells two files, or two versions of one, apart."""
    identity = f"{storage.url}\n{file.path}\n{file.size}\n{file.version}"
    return sha256(identity.encode()).hexdigest()


def _touched(copy: Path) -> bool:
    """Tell whether a copy is there; note that it is used."""
    try:
        os.utime(copy)
    except FileNotFoundError:
        return False
    return True
