"""Weights that their makers published: fetched once, checked, kept in one folder.

The folder is ``$CURATION_CACHE``, by default ``~/.cache/curation`` (or ``curation`` under
``$XDG_CACHE_HOME``). A file's sha256 is pinned here in the code, so that what is found at
the address, or in the folder, is the file that was tested or an error. On a machine
without a network, put the file into the folder by hand, or name it in the recipe.
"""

import hashlib
import logging
import os
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

from curation.errors import DataError, NotFoundError, StorageError
from curation.fingerprint import file_sha256
from curation.storage import LocalStorage
from curation.storage.retries import try_seconds

log = logging.getLogger(__name__)

PUBLISHED = "published"
"""The source of weights that stands for a classifier's :class:`PublishedFile`."""

MAX_BYTES = 64 << 20  # the largest head has 4 MB; what sends more is not one
PIECE = 64 << 10  # bytes
TIMEOUT_SECONDS = 30  # without an answer, or between two pieces of one


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file at its maker's address."""

    name: str
    """In the cache folder."""
    url: str
    sha256: str


def weights_path(source: str, published: PublishedFile) -> Path:
    """Find the local file of a source of weights, fetching it if need be.

    Args:
        source: ``published``, or the path of a file.
        published: What ``published`` stands for.

    Raises:
        NotFoundError: There is no such file.
        StorageError: It has to be fetched, and can't be.
        DataError: What was fetched is another file.
    """
    if source == PUBLISHED:
        return published_file(published)
    file = Path(source)
    if not file.is_file():
        raise NotFoundError(
            f"weights: {source}: there is no such file; name another, or leave it out for "
            f"the published one ({published.url})"
        )
    return file


def weights_hash(source: str, published: PublishedFile) -> str:
    """Give the sha256 of a source of weights, without fetching it.

    Raises:
        NotFoundError: There is no such file.
    """
    if source == PUBLISHED:
        return published.sha256
    return file_sha256(weights_path(source, published))


def published_file(published: PublishedFile) -> Path:
    """Give the file in the cache folder, fetching it if it isn't there.

    Raises:
        StorageError: Its address can't be reached.
        DataError: What is found there is another file.
    """
    file = cache_folder() / published.name
    found = file_sha256(file) if file.is_file() else None
    if found == published.sha256:
        return file
    if found is not None:
        log.warning(
            "%s has sha256 %s, not %s: fetching it again", file, found, published.sha256
        )
    data = _fetched(published, file)
    digest = hashlib.sha256(data).hexdigest()
    if digest != published.sha256:
        raise DataError(
            f"{published.url}: expected a file with sha256 {published.sha256}; found "
            f"{len(data):,} bytes with {digest}. {_by_hand(published, file)}"
        )
    LocalStorage(file.parent).write(file.name, data)
    return file


def cache_folder() -> Path:
    """Give the folder that published weights are kept in, whether it exists or not."""
    if folder := os.environ.get("CURATION_CACHE"):
        return Path(folder).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "curation"


def _fetched(published: PublishedFile, file: Path) -> bytes:
    log.info("fetching %s", published.url)
    try:
        with urllib.request.urlopen(published.url, timeout=TIMEOUT_SECONDS) as answer:
            data = _body(answer)
            missing = answer.length or 0  # of what the server said it would send
        if missing and len(data) <= MAX_BYTES:
            raise HTTPException(f"it broke off {missing:,} bytes before its end")
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the answer too, and holds the connection
        raise StorageError(
            f"{published.url} can't be fetched ({error}). {_by_hand(published, file)}"
        ) from error
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{published.url}: sends more than {MAX_BYTES:,} bytes, which no head has. "
            f"{_by_hand(published, file)}"
        )
    return data


def _body(answer: HTTPResponse) -> bytes:
    """Read what is sent, as far as it can be a head, in a time that it needs."""
    end = time.monotonic() + try_seconds(min(answer.length or MAX_BYTES, MAX_BYTES))
    data = bytearray()
    while len(data) <= MAX_BYTES and (piece := answer.read1(PIECE)):
        data += piece
        if time.monotonic() > end:
            raise TimeoutError(f"timed out: {len(data):,} bytes came until then")
    return bytes(data)


def _by_hand(published: PublishedFile, file: Path) -> str:
    return (
        "To supply it by hand, fetch it on another machine, and put it at "
        f"{file}, or name it in the recipe as weights: <file>; its sha256 is "
        f"{published.sha256}"
    )
