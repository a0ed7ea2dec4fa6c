"""Family: where bytes live. One file per kind of place; ``open_storage`` picks by URL."""

from pathlib import Path
from urllib.parse import urlsplit

from curation.errors import InputError, UnknownNameError
from curation.public_urls import without_secrets
from curation.storage.base import ByteRange, Listing, Part, Storage, StoredFile, Unusable
from curation.storage.http import HttpStorage
from curation.storage.local import LocalStorage
from curation.storage.local_copies import LocalCopies
from curation.storage.memory import MemoryStorage
from curation.storage.s3 import S3Settings, S3Storage

__all__ = [
    "ByteRange",
    "HttpStorage",
    "Listing",
    "LocalCopies",
    "LocalStorage",
    "MemoryStorage",
    "Part",
    "S3Settings",
    "S3Storage",
    "Storage",
    "StoredFile",
    "Unusable",
    "open_storage",
    "open_stored_file",
]

WEB = ("http://", "https://")
SCHEMES = ("", "file", "http", "https", "s3")


def open_storage(url: str | Path, s3: S3Settings | None = None) -> Storage:
    """Give the storage at a URL. Nothing is read or connected to yet.

    Args:
        url: A local folder (``/data/raw``, ``file:///data/raw``, relative to the
            working directory if not absolute), ``s3://bucket/prefix``, or a folder of a web
            server (``https://…``), which can only be read.
        s3: How to reach the server, for ``s3://`` only.

    Raises:
        UnknownNameError: The URL has another scheme.
        InputError: An ``s3://`` URL names no bucket, or keys; or a URL can't be read.
    """
    try:
        parts = urlsplit(str(url))
    except ValueError:  # which quotes passwords
        raise InputError("a URL's host can't be read; write it as https://host/…") from None
    if parts.scheme not in SCHEMES:
        raise UnknownNameError.among("storage scheme", parts.scheme, SCHEMES[1:])
    if parts.scheme in ("http", "https"):
        return HttpStorage(str(url).partition("#")[0])
    if parts.scheme != "s3":
        return LocalStorage(Path(parts.path if parts.scheme == "file" else str(url)))
    if not parts.netloc:
        raise InputError(f"{str(url)!r} names no bucket; expected s3://bucket/prefix")
    if without_secrets(str(url)) != str(url):
        raise InputError(
            "an s3:// URL has a user name, a password or a token in it; expected "
            "s3://bucket/prefix, and keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "in the environment, or as a profile of AWS's tools"
        )
    return S3Storage(parts.netloc, parts.path.strip("/"), s3 or S3Settings())


def open_stored_file(url: str, s3: S3Settings | None = None) -> tuple[Storage, str]:
    """Give the storage of the folder that a file is in, and the file's name there.

    Raises:
        InputError, UnknownNameError: As :func:`open_storage`.
    """
    url, mark, query = url.partition("?") if url.lower().startswith(WEB) else (url, "", "")
    folder, _, name = url.rpartition("/")
    place = f"{folder}{mark}{query}" or ("/" if url.startswith("/") else ".")
    return open_storage(place, s3), name
