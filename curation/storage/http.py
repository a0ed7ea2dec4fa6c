"""Files under a URL of a web server. They can be read, not written.

Listing needs a server that lists folders as HTML links, as most file servers do. Ranges
are asked for; a server that ignores them sends the whole file, which is then kept until
another one is asked for, so that reading a shard piece by piece still fetches it once.
"""

import asyncio
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote, unquote

from curation.errors import CurationError, InputError, NotFoundError, StorageError
from curation.storage.base import (
    Storage,
    StoredFile,
    checked_path,
    is_hidden,
    once_per_process,
)

if TYPE_CHECKING:
    from fsspec.implementations.http import HTTPFileSystem

_VERSION_FIELDS = ("ETag", "Content-MD5", "Digest", "Last-Modified")
_READER_BLOCK = 1 << 20  # bytes that a reader fetches at a time

_REFUSED = (401, 403, 405)
_GONE = (404, 410)
_RANGE_BEYOND_END = 416
_PARTIAL = 206


@dataclass(frozen=True)
class HttpStorage(Storage):
    """A folder of a web server."""

    root: str
    """``http://…`` or ``https://…``."""
    _whole: dict[str, bytes] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.rstrip("/"))

    @property
    def url(self) -> str:
        return self.root

    def list_files(self, folder: str = "", suffix: str = "") -> list[StoredFile]:
        top = self._place(folder) if folder else self.root
        with _translated(top):
            found = self._links(f"{top}/")
        names = [unquote(url.removeprefix(f"{self.root}/")) for url in found]
        kept = [n for n in names if n.endswith(suffix) and not is_hidden(n)]
        with _translated(top):
            infos = self._call(self._infos, [self._place(name) for name in kept])
        listed = map(_stored, kept, infos)
        return sorted(listed, key=lambda file: file.path)

    def stat(self, path: str) -> StoredFile:
        place = self._place(path)
        with _translated(place):
            return _stored(path, self.file_system.info(place))

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            self.stat(path)  # HTTP has no empty ranges, but the file must be there
            return b""
        place = self._place(path)
        if place in self._whole:
            return self._whole[place][start:stop]
        with _translated(place):
            data, is_range = cast(
                tuple[bytes, bool], self._call(self._fetch, place, start, stop)
            )
        if is_range:
            return data
        self._whole.clear()
        self._whole[place] = data
        return data[start:stop]

    def open_reader(self, path: str) -> BinaryIO:
        reader = _RangeReader(self, path, self.stat(path).size)
        return io.BufferedReader(reader, _READER_BLOCK)

    def open_writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        raise self._read_only(path)

    def delete(self, path: str) -> None:
        raise self._read_only(path)

    @property
    def file_system(self) -> "HTTPFileSystem":
        return once_per_process(self, "_file_system", self._connect)

    def _connect(self) -> "HTTPFileSystem":
        from fsspec.implementations.http import HTTPFileSystem

        return HTTPFileSystem(skip_instance_cache=True, use_listings_cache=False)

    def _call(self, function: Any, *args: Any) -> Any:
        from fsspec.asyn import sync

        return sync(self.file_system.loop, function, *args)

    def _links(self, folder: str) -> list[str]:
        """Give the files that a folder's page, and those of its folders, link to."""
        found = []
        for link in self._linked_from(folder):
            if "?" in link or not link.startswith(folder) or link == folder:
                continue  # pages link to themselves too, sorted and zipped by queries
            found += self._links(link) if link.endswith("/") else [link]
        return found

    def _linked_from(self, folder: str) -> list[str]:
        try:
            links: list[str] = self.file_system.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [link.replace("/./", "/") for link in links]

    async def _infos(self, places: list[str]) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*map(self.file_system._info, places)))

    async def _fetch(self, place: str, start: int, stop: int | None) -> tuple[bytes, bool]:
        """Give the bytes that the server sends, and whether they are the range alone."""
        session = await self.file_system.set_session()
        headers = {"Accept-Encoding": "identity"}
        if start or stop is not None:
            last = "" if stop is None else stop - 1
            headers["Range"] = f"bytes={start}-{last}"
        async with session.get(place, headers=headers) as response:
            if response.status == _RANGE_BEYOND_END:
                return b"", True
            response.raise_for_status()
            data = await response.read()
            return data, response.status == _PARTIAL or "Range" not in headers

    def _place(self, path: str) -> str:
        return f"{self.root}/{quote(checked_path(path))}"

    def _read_only(self, path: str) -> InputError:
        return InputError(
            f"{self.root}/{path}: a web server can only be read; write to a local folder "
            "or to s3://"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_whole": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class _RangeReader(io.RawIOBase):
    """A file that is read range by range."""

    def __init__(self, storage: HttpStorage, path: str, size: int) -> None:
        self._storage, self._path, self._size = storage, path, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._storage.read(self._path, self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _stored(path: str, info: dict[str, Any]) -> StoredFile:
    if info["size"] is None:
        raise StorageError(f"{info['name']}: the server does not say how long the file is")
    version = next((str(info[f]) for f in _VERSION_FIELDS if f in info), "")
    return StoredFile(path, info["size"], version.strip('"'))


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Raise this package's errors for those of fsspec and aiohttp."""
    try:
        yield
    except CurationError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{place}: the server has no such file") from error
    except Exception as error:
        status = getattr(error, "status", None)
        if status in _GONE:
            raise NotFoundError(f"{place}: the server has no such file") from error
        if status in _REFUSED:
            raise InputError(f"{place}: the server refuses it ({error})") from error
        raise StorageError(
            f"{place}: {type(error).__name__}: {error}; the same call may work later"
        ) from error
