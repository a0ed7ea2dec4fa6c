"""Files from anyone's web servers, many at once, with bounds on everything.

A list of URLs is written by strangers, and so is what their servers answer. Therefore only
``http`` and ``https`` are spoken, addresses that are not public are never connected to
(redirects and names that resolve to them included), a download has a deadline from the
first byte of the request to the last of the answer, and a bound on its size. What fails is
a reason, never an exception, unless this machine fails.

Source: RFC 9110 (HTTP); Google's "robots meta tag, X-Robots-Tag" and img2dataset for which
of its directives forbid the use of an image.
"""

import asyncio
import errno
import hashlib
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from curation.errors import StorageError, shortened
from curation.image_kinds import HEAD_BYTES, explain_no_image, image_extension
from curation.ingest.addresses import is_public
from curation.public_urls import text_without_secrets
from curation.recipe import DownloadSettings

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, TCPConnector

READ_BYTES = 1 << 16
MOST_REDIRECTS = 5
DISALLOWED = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
_WITH_VALUES = (
    "unavailable_after",
    "max-snippet",
    "max-image-preview",
    "max-video-preview",
)
_AGENT = re.compile(r"[a-z*][a-z0-9_.*-]*")

_OUR_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""Errors of this machine, not of a server: no URL is to blame for a disk that is full."""


@dataclass(frozen=True, slots=True)
class Download:
    """An image that came, or why it did not."""

    path: Path
    """Where its bytes are, if it came."""
    extension: str = ""
    size: int = 0
    """In bytes."""
    sha256: str = ""
    """In hex."""
    error: str | None = None
    """Why it did not come; None if it did."""


class _RefusedError(Exception):
    """The answer is not one to be used; the message is the reason."""


def download_images(
    targets: Mapping[Path, str], settings: DownloadSettings
) -> dict[Path, Download]:
    """Download images.

    May be called from several threads at once, and from where an event loop runs.

    Args:
        targets: URL of each file that is to be written. Folders must be there.
        settings: How.

    Returns:
        What became of each. Of those that failed no file is left.

    Raises:
        StorageError: This machine's disk is full or fails, or too many files are open.
    """
    from fsspec.asyn import get_loop, sync

    found: list[Download] = sync(get_loop(), _download_all, targets, settings)
    return {download.path: download for download in found}


async def _download_all(
    targets: Mapping[Path, str], settings: DownloadSettings
) -> list[Download]:
    import aiohttp

    connector = _connector()(
        limit=0,  # the deadline is not to run while a download waits for its turn
        socket_factory=None if settings.allow_private_addresses else _public_socket,
    )
    turns = asyncio.Semaphore(settings.concurrency)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=settings.timeout_seconds),
        headers={"User-Agent": settings.user_agent, "Accept-Encoding": "identity"},
        auto_decompress=False,  # what is packed small may be huge
        cookie_jar=aiohttp.DummyCookieJar(),  # answers must not depend on each other
    ) as session:

        async def in_turn(path: Path, url: str) -> Download:
            async with turns:
                return await _download(session, path, url, settings)

        return await asyncio.gather(*(in_turn(*target) for target in targets.items()))


@cache
def _connector() -> "type[TCPConnector]":
    """Give a connector that takes an answer whose body is followed by anything.

    Other clients read as much as ``Content-Length`` says, and so does aiohttp, unless what
    follows comes together with the headers: then it takes all for a faulty answer.
    """
    from aiohttp import TCPConnector
    from aiohttp.client_proto import ResponseHandler

    class Handler(ResponseHandler):
        def data_received(self, data: bytes) -> None:
            head, end, body = data.partition(b"\r\n\r\n")
            super().data_received(head + end)
            if body:
                super().data_received(body)

    class Connector(TCPConnector):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            handler: type[ResponseHandler] = Handler
            self._factory = partial(handler, loop=self._loop)

    return Connector


async def _download(
    session: "ClientSession", path: Path, url: str, settings: DownloadSettings
) -> Download:
    import aiohttp

    try:
        _check_scheme(url)
        async with session.get(url, max_redirects=MOST_REDIRECTS) as response:
            _check_answer(response, settings)
            done = await _save(response, path, settings)
    except _RefusedError as error:
        reason = str(error)
    except TimeoutError:
        reason = f"no whole answer within {settings.timeout_seconds:g} s"
    except aiohttp.NonHttpUrlRedirectClientError:
        reason = "redirected to something else than http or https"
    except aiohttp.TooManyRedirects:
        reason = f"redirected more than {MOST_REDIRECTS} times"
    except (aiohttp.InvalidURL, ValueError):  # yarl's errors, and those of idna
        reason = "not a URL"
    except (aiohttp.ClientError, OSError) as error:
        if getattr(error, "errno", None) in _OUR_ERRORS:
            raise StorageError(f"{path}: {error}; try again when it is mended") from error
        reason = _connection_reason(error)
    else:
        return done
    path.unlink(missing_ok=True)
    return Download(path, error=shortened(text_without_secrets(reason, of=url)))


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https"):
        raise _RefusedError(
            f"only http and https are fetched; found scheme {parts.scheme!r}"
        )


def _check_answer(response: "ClientResponse", settings: DownloadSettings) -> None:
    if response.status != 200:
        raise _RefusedError(f"HTTP status {response.status}")
    for value in response.headers.getall("X-Robots-Tag", []):
        if forbids(value, settings.user_agent):
            raise _RefusedError(f"the server forbids its use: X-Robots-Tag: {value}")
    if (response.content_length or 0) > settings.max_bytes:
        raise _too_large(settings)


def forbids(robots_tag: str, user_agent: str) -> bool:
    """Tell whether an ``X-Robots-Tag`` forbids the use of an image by a user agent.

    A name with a colon says whom all directives up to the next such name are for; those
    before any are for everybody. A directive may have a value behind a colon too.

    Args:
        robots_tag: The header's value.
        user_agent: What the server was told of who asks; its product counts.
    """
    ours = ("", "*", re.split(r"[/\s]", user_agent.strip().lower(), maxsplit=1)[0])
    agent = ""
    for part in robots_tag.lower().split(","):
        name, _, rest = (word.strip() for word in part.partition(":"))
        directive = name
        if ":" in part and name not in _WITH_VALUES and _AGENT.fullmatch(name):
            agent, directive = name, rest
        if agent in ours and directive in DISALLOWED:
            return True
    return False


async def _save(
    response: "ClientResponse", path: Path, settings: DownloadSettings
) -> Download:
    """Write the answer's body to a file as it comes."""
    size, digest, head = 0, hashlib.sha256(), b""
    with open(path, "wb") as file:
        async for block in response.content.iter_chunked(READ_BYTES):
            size += len(block)
            if size > settings.max_bytes:
                raise _too_large(settings)
            head += block[: HEAD_BYTES - len(head)]
            digest.update(block)
            file.write(block)
    extension = image_extension(head)
    if extension is None:
        raise _RefusedError(explain_no_image(head))
    return Download(path, extension, size, digest.hexdigest())


def _too_large(settings: DownloadSettings) -> _RefusedError:
    return _RefusedError(f"more than {settings.max_bytes:,} bytes")


def _public_socket(address: tuple[Any, ...]) -> socket.socket:
    """Open a socket for an address that was resolved, unless it is not public.

    Here and nowhere before, since a name may resolve to something else the next time.
    """
    family, kind, protocol, _, place = address
    if not is_public(place[0]):
        raise OSError(f"{place[0]} is no public address")
    return socket.socket(family, kind, protocol)


def _connection_reason(error: Exception) -> str:
    reason = getattr(error, "os_error", None) or error
    return f"{type(error).__name__}: {reason}"
