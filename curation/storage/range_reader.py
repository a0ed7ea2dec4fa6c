"""A file of a server, read range by range as if it were open."""

import io
from typing import Any

from curation.storage.base import Storage, StoredFile

LEAST_AHEAD, MOST_AHEAD = 1 << 20, 16 << 20
"""Bytes of one request: the first, and the longest after reads that follow each other."""


class RangeReader(io.RawIOBase):
    """Reads one version of a file; requests grow while what is read follows what was.

    Raises:
        StaleError: The file was replaced since it was opened.
    """

    def __init__(self, storage: Storage, file: StoredFile) -> None:
        self._storage, self._file = storage, file
        self._position = 0
        self._held = b""
        self._held_from = 0
        self._ahead = LEAST_AHEAD // 2  # which the first request doubles

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origins = (0, self._position, self._file.size)
        position = origins[whence] + offset
        if position < 0:
            raise ValueError(f"a position before the file's begin: {position}")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        least = min(len(buffer), self._file.size - self._position)
        if least <= 0:
            return 0
        if not 0 <= self._position - self._held_from < len(self._held):
            self._fetch(least)
        start = self._position - self._held_from
        data = self._held[start : start + least]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self, least: int) -> None:
        follows = self._position == self._held_from + len(self._held)
        self._ahead = min(2 * self._ahead, MOST_AHEAD) if follows else LEAST_AHEAD
        stop = min(self._position + max(least, self._ahead), self._file.size)
        self._held = self._storage.read_version(self._file, self._position, stop)
        self._held_from = self._position
