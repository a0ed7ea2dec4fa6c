"""Files under a prefix of an S3 bucket, or of any server that speaks S3."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from curation.errors import CurationError, InputError, NotFoundError, StorageError
from curation.storage.base import (
    Storage,
    StoredFile,
    checked_path,
    is_hidden,
    once_per_process,
)

if TYPE_CHECKING:
    import s3fs

WITHOUT_CHECKSUM_HEADERS = {
    "response_checksum_validation": "when_required",
    "request_checksum_calculation": "when_required",
}
"""Servers other than AWS send the whole object's checksum with a range of it (rclone) or
refuse the new headers; content is checked by the sha256 in manifests instead."""


@dataclass(frozen=True)
class S3Settings:
    """How to reach a server; what is None is taken from the environment, as AWS does.

    Keys are not settings: they come from the environment, the shared credentials file
    (``profile``) or the machine's role, so that no recipe ever holds a secret.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    """Send unsigned requests, for public buckets."""


@dataclass(frozen=True)
class S3Storage(Storage):
    """A prefix of a bucket. A write is one request, or one multipart upload."""

    bucket: str
    prefix: str = ""
    settings: S3Settings = field(default_factory=S3Settings)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def list_files(self, folder: str = "", suffix: str = "") -> list[StoredFile]:
        top = self._place(folder) if folder else self.url.removeprefix("s3://")
        found: dict[str, dict[str, Any]] = self._call(
            self.file_system.find, top, detail=True, refresh=True
        )
        start = len(self.url.removeprefix("s3://")) + 1
        files = [_stored(name[start:], info) for name, info in found.items()]
        kept = [f for f in files if f.path.endswith(suffix) and not is_hidden(f.path)]
        return sorted(kept, key=lambda file: file.path)

    def stat(self, path: str) -> StoredFile:
        info = self._call(self.file_system.info, self._place(path), refresh=True)
        if info["type"] != "file":
            raise NotFoundError(f"{self.url}/{path}: expected a file, found a folder")
        return _stored(path, info)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            self.stat(path)  # S3 has no empty ranges, but the file must be there
            return b""
        place = self._place(path)
        return cast(bytes, self._call(self._read_range, place, start, stop))

    def open_reader(self, path: str) -> BinaryIO:
        return cast(BinaryIO, self._call(self.file_system.open, self._place(path), "rb"))

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        file = self._call(self.file_system.open, self._place(path), "wb")
        try:
            yield file
            self._call(file.close)
        except BaseException:
            # s3fs publishes what it holds when a file is closed or forgotten, also
            # after an error; a discarded file that counts as closed is never published.
            file.discard()
            file.closed = True
            raise

    def delete(self, path: str) -> None:
        self._call(self.file_system.rm_file, self._place(path))

    @property
    def file_system(self) -> "s3fs.S3FileSystem":
        return once_per_process(self, "_file_system", self._connect)

    def _connect(self) -> "s3fs.S3FileSystem":
        import s3fs

        settings = self.settings
        return s3fs.S3FileSystem(
            anon=settings.anonymous,
            profile=settings.profile,
            endpoint_url=settings.endpoint_url,
            config_kwargs=WITHOUT_CHECKSUM_HEADERS,
            client_kwargs={"region_name": settings.region} if settings.region else {},
            use_listings_cache=False,
            skip_instance_cache=True,  # credentials may have changed since
        )

    def _read_range(self, place: str, start: int, stop: int | None) -> bytes:
        try:
            cat_file = self.file_system.cat_file
            return cast(bytes, cat_file(place, start=start or None, end=stop))
        except OSError as error:
            if error.errno == errno.EINVAL:  # S3's InvalidRange: the file ends before
                return b""
            raise

    def _place(self, path: str) -> str:
        return f"{self.url.removeprefix('s3://')}/{checked_path(path)}"

    def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call s3fs, and raise this package's errors for its own."""
        where = args[0] if args and isinstance(args[0], str) else self.url
        try:
            return call(*args, **kwargs)
        except CurationError:
            raise
        except FileNotFoundError as error:
            raise NotFoundError(f"s3://{where}: there is no such object") from error
        except PermissionError as error:
            raise InputError(
                f"s3://{where}: access denied ({error}); check the credentials, the "
                "profile and the bucket's policy"
            ) from error
        except Exception as error:
            raise _translated(where, error) from error

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_file_system"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _translated(where: str, error: Exception) -> CurationError:
    name = type(error).__name__
    if name in ("NoCredentialsError", "ProfileNotFound", "PartialCredentialsError"):
        return InputError(
            f"s3://{where}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "name a profile, or use anonymous access for a public bucket"
        )
    return StorageError(f"s3://{where}: {name}: {error}; the same call may work later")


def _stored(path: str, info: dict[str, Any]) -> StoredFile:
    return StoredFile(path, info["size"], str(info["ETag"]).strip('"'))
