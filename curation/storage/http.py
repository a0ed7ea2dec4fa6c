"""Files under a URL of a web server. They can be read, not written.

Listing needs a server that lists folders as HTML links, as most file servers do. Ranges
are asked for; a server that ignores them sends the whole file, which is then kept until
another one is asked for, so that reading a shard piece by piece still fetches it once.

Every request is repeated while it fails in a way that may pass: ``retries.py``.

A user name, a password and a query of the URL go with every request, such as
``https://user:password@host/folder?token=…``; where the folder is shown, it is without.
"""

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote

from curation.errors import CurationError, InputError, NotFoundError, StorageError
from curation.public_urls import cause_to_show, text_without_secrets, without_secrets
from curation.storage.answers import BEYOND_END, Answer, Wanted, wrong_answer
from curation.storage.base import (
    Listing,
    Storage,
    StoredFile,
    Suffix,
    Unusable,
    checked_path,
    is_hidden,
    once_per_process,
    replaced,
)
from curation.storage.range_reader import RangeReader
from curation.storage.retries import SILENCE_SECONDS, Retries, try_seconds

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from fsspec.implementations.http import HTTPFileSystem

T = TypeVar("T")

_VERSION_FIELDS = ("ETag", "Content-MD5", "Digest", "Last-Modified")
_READER_BUFFER = 128 << 10  # bytes that a reader holds besides what a request brought

_REQUESTS_AT_ONCE = 32  # while a folder is listed
_LONG = 10 << 20  # bytes that are waited for where a server doesn't tell how many come

_GONE = (404, 410)
_MAY_PASS = (408, 425, 429, *range(500, 600))  # of 4xx only what asks for another try


@dataclass(frozen=True)
class _Fetched:
    """What a server sent of a file."""

    answer: Answer
    body: bytes
    versions: tuple[str, ...]
    """By each of the headers that tell one, the best first."""

    def is_of(self, file: StoredFile) -> bool:
        """Tell whether nothing says that it is of another file than was listed."""
        if self.answer.size not in (None, file.size):
            return False
        return not (self.versions and file.version) or file.version in self.versions


@dataclass(frozen=True)
class HttpStorage(Storage):
    """A folder of a web server."""

    root: str = field(repr=False)
    """``http://…`` or ``https://…``, with all that is needed to fetch from it."""
    _whole: dict[str, _Fetched] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _retries: Retries = field(
        default_factory=Retries, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        folder, mark, query = self.root.partition("?")
        object.__setattr__(self, "root", f"{folder.rstrip('/')}{mark}{query}")

    def __repr__(self) -> str:
        return f"HttpStorage({self.url!r})"

    @property
    def url(self) -> str:
        return without_secrets(self._folder)

    @property
    def _folder(self) -> str:
        return self.root.partition("?")[0]

    @property
    def _query(self) -> str:
        return "".join(self.root.partition("?")[1:])

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        top = f"{self._folder}/{quote(checked_path(folder))}" if folder else self._folder
        found = self._links(f"{top}/")
        names = [unquote(url.removeprefix(f"{self._folder}/")) for url in found]
        kept = [n for n in names if n.endswith(suffix) and not is_hidden(n)]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            looked = list(threads.map(self._looked_up, sorted(kept)))
        files = [file for file in looked if isinstance(file, StoredFile)]
        return Listing(files, [entry for entry in looked if isinstance(entry, Unusable)])

    def _looked_up(self, name: str) -> StoredFile | Unusable:
        """Look up a file that a page links to; what can't be used costs itself."""
        try:
            return self.stat(name)
        except (InputError, NotFoundError) as error:
            return Unusable(name, str(error))

    def stat(self, path: str) -> StoredFile:
        return self._ask(self._place(path), self._look_up, path)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._read(path, start, stop, None)

    def read_version(
        self, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        return self._read(file.path, start, stop, file)

    def _read(
        self, path: str, start: int, stop: int | None, file: StoredFile | None
    ) -> bytes:
        if stop is not None and stop <= start:
            self.stat(path)  # HTTP has no empty ranges, but the file must be there
            return b""
        if file is not None and stop is not None and start < file.size:
            stop = min(stop, file.size)
        place = self._place(path)
        kept = self._whole.get(place)
        if kept is not None and (file is None or kept.is_of(file)):
            return kept.body[start:stop]
        self._whole.clear()
        return self._ask(place, self._fetch, path, start, stop, file)

    def open_reader(self, path: str) -> BinaryIO:
        return io.BufferedReader(RangeReader(self, self.stat(path)), _READER_BUFFER)

    def open_writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        raise self._read_only(path)

    def create(self, path: str, data: bytes) -> bytes:
        raise self._read_only(path)

    def delete(self, path: str) -> None:
        raise self._read_only(path)

    @property
    def file_system(self) -> "HTTPFileSystem":
        return once_per_process(self, "_file_system", self._connect)

    def _connect(self) -> "HTTPFileSystem":
        from aiohttp import ClientTimeout
        from fsspec.implementations.http import HTTPFileSystem

        # how long a whole answer may take is told when its length is known
        timeout = ClientTimeout(
            total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS
        )
        return HTTPFileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            client_kwargs={"timeout": timeout},
        )

    def _ask(self, place: str, ask: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Have a request about a place made, again and again if need be."""
        from fsspec.asyn import sync

        def once() -> T:
            with _translated(place):
                found: T = sync(self.file_system.loop, ask, place, *args)
            return found

        return self._retries.call(once)

    def _links(self, folder: str) -> list[str]:
        """Give the files that a folder's page, and those of its folders, link to."""
        found = []
        for link in self._linked_from(folder):
            if "?" in link or not link.startswith(folder) or link == folder:
                continue  # pages link to themselves too, sorted and zipped by queries
            found += self._links(link) if link.endswith("/") else [link]
        return found

    def _linked_from(self, folder: str) -> list[str]:
        async def ask(place: str) -> list[str]:
            async with asyncio.timeout(try_seconds(_LONG)):
                links: list[str] = await self.file_system._ls(place, detail=False)
            return links

        try:
            links = self._ask(f"{folder}{self._query}", ask)
        except NotFoundError:
            return []
        asked = f"{folder}{self._query}".rstrip("/")  # which fsspec puts names behind
        links = [link.replace(f"{asked}/", folder) for link in links]
        return [link.replace("/./", "/") for link in links]

    async def _look_up(self, place: str, path: str) -> StoredFile:
        """Ask for the headers of a file; where HEAD is refused, by the begin of a GET."""
        session = await self.file_system.set_session()
        status = 0
        for method in ("HEAD", "GET"):
            async with (
                asyncio.timeout(try_seconds()),
                session.request(
                    method, place, headers=_AS_STORED, allow_redirects=True
                ) as response,
            ):
                status = response.status
                if status in (*_GONE, *_MAY_PASS) and status not in _NO_HEAD:
                    response.raise_for_status()
                size = Answer.of(status, response.headers).size
                if response.ok and size is not None:
                    return StoredFile(path, size, "".join(_versions_of(response)[:1]))
        response.raise_for_status()
        raise InputError(f"{place}: the server does not say how long the file is")

    async def _fetch(
        self, place: str, path: str, start: int, stop: int | None, file: StoredFile | None
    ) -> bytes:
        wanted = Wanted(without_secrets(place), start, stop)
        fetched = await self._get(place, wanted)
        if file is not None and not fetched.is_of(file):
            found = await self._look_up(place, path)
            if found != file:
                raise replaced(self, file, found)
            raise wrong_answer(wanted, f"it is not of version {file.version}")
        answer, body = fetched.answer, fetched.body
        if file is None and (answer.has_whole or len(body) != wanted.size):
            # where a file ends, which nothing but this answer says, is asked again
            file = await self._look_up(place, path)
            if not fetched.is_of(file):
                raise wrong_answer(wanted, f"it is not of version {file.version}")
        data = answer.checked(body, wanted, None if file is None else file.size)
        if answer.has_whole and not wanted.is_whole:
            self._whole[place] = fetched
        return data

    async def _get(self, place: str, wanted: Wanted) -> _Fetched:
        session = await self.file_system.set_session()
        headers = dict(_AS_STORED)
        if not wanted.is_whole:
            headers["Range"] = wanted.header
        now = asyncio.get_running_loop().time
        async with (
            asyncio.timeout(try_seconds()) as limit,
            session.get(place, headers=headers) as response,
        ):
            answer = Answer.of(response.status, response.headers)
            versions = tuple(_versions_of(response))
            if response.status == BEYOND_END:
                return _Fetched(answer, b"", versions)
            response.raise_for_status()
            limit.reschedule(now() + try_seconds(answer.content_length or _LONG))
            return _Fetched(answer, await response.read(), versions)

    def _place(self, path: str) -> str:
        return f"{self._folder}/{quote(checked_path(path))}{self._query}"

    def _read_only(self, path: str) -> InputError:
        return InputError(
            f"{self.url}/{path}: a web server can only be read; write to a local folder "
            "or to s3://"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_whole": {}, "_retries": self._retries}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


_AS_STORED: Mapping[str, str] = {"Accept-Encoding": "identity"}

_NO_HEAD = (405, 501)
"""What servers answer that know no HEAD, or allow none."""


def _versions_of(response: "ClientResponse") -> list[str]:
    found = (response.headers.get(name, "").strip('"') for name in _VERSION_FIELDS)
    return [version for version in found if version]


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Raise this package's errors for those of fsspec and aiohttp."""
    from aiohttp import ClientConnectorError, InvalidURL

    try:
        yield
    except CurationError:
        raise
    except FileNotFoundError as error:
        raise _absent(place) from cause_to_show(error, place)
    except ClientConnectorError as error:
        raise _failed(place, error, reached=False) from cause_to_show(error, place)
    except InvalidURL as error:
        shown = without_secrets(place)
        raise InputError(f"{shown}: not a URL that can be asked for") from cause_to_show(
            error, place
        )
    except TimeoutError as error:
        late = f"{without_secrets(place)}: no whole answer in time"
        raise StorageError(f"{late}; the same call may work later") from cause_to_show(
            error, place
        )
    except Exception as error:
        cause, status = cause_to_show(error, place), getattr(error, "status", None)
        if status in _GONE:
            raise _absent(place) from cause
        if isinstance(status, int) and 400 <= status < 500 and status not in _MAY_PASS:
            raise InputError(
                f"{without_secrets(place)}: the server refuses it ({_said(error, place)})"
            ) from cause
        raise _failed(place, error, reached=True) from cause


def _absent(place: str) -> NotFoundError:
    return NotFoundError(f"{without_secrets(place)}: the server has no such file")


def _failed(place: str, error: Exception, *, reached: bool) -> StorageError:
    shown, name = without_secrets(place), type(error).__name__
    failed = StorageError(
        f"{shown}: {name}: {_said(error, place)}; the same call may work later"
    )
    failed.reached = reached
    return failed


def _said(error: Exception, place: str) -> str:
    """Give an error's words, without the place's secrets that a server repeats."""
    return text_without_secrets(str(error), of=place)
