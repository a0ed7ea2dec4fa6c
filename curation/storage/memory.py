"""Files in a dictionary: for tests, notebooks and examples."""

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from curation.errors import NotFoundError
from curation.storage.base import (
    Listing,
    Storage,
    StoredFile,
    Suffix,
    checked_path,
    sorted_listing,
)

_versions = itertools.count(1)


@dataclass(frozen=True)
class MemoryStorage(Storage):
    """A storage that ends with the process."""

    name: str = "memory"
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict, repr=False)
    """Path to content and version."""

    @property
    def url(self) -> str:
        return f"memory://{self.name}"

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        start = f"{folder.rstrip('/')}/" if folder else ""
        names = {path: path for path in self.files if path.startswith(start)}
        return sorted_listing(names, lambda path, _: self.stat(path), suffix)

    def stat(self, path: str) -> StoredFile:
        data, version = self._entry(path)
        return StoredFile(path, len(data), str(version), written_ns=version)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._entry(path)[0][start:stop]

    def open_reader(self, path: str) -> BinaryIO:
        return io.BytesIO(self._entry(path)[0])

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        checked_path(path)
        buffer = io.BytesIO()
        yield buffer
        self.files[path] = (buffer.getvalue(), next(_versions))

    def create(self, path: str, data: bytes) -> bytes:
        # setdefault is atomic: of two threads' files, one stays
        return self.files.setdefault(checked_path(path), (data, next(_versions)))[0]

    def delete(self, path: str) -> None:
        self.files.pop(checked_path(path), None)

    def _entry(self, path: str) -> tuple[bytes, int]:
        if checked_path(path) not in self.files:
            raise NotFoundError(f"{path}: no such file in {self.url}")
        return self.files[path]
