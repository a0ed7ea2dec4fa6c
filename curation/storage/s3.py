"""Files under a prefix of an S3 bucket, or of any server that speaks S3.

What reads and looks up is repeated while it fails in a way that may pass: ``retries.py``.
Each request, of writes too, is first repeated a few times by botocore.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import mktime_tz, parsedate_tz
from functools import cache, partial
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    PathError,
    StaleError,
    StorageError,
)
from curation.public_urls import cause_to_show
from curation.storage.base import (
    COPY_BLOCK,
    Buffer,
    ByteRange,
    Listing,
    Part,
    Storage,
    StoredFile,
    Suffix,
    checked_path,
    once_per_process,
    part_blocks,
    part_size,
    replaced,
    run_ahead,
    sorted_listing,
)
from curation.storage.retries import Retries

if TYPE_CHECKING:
    import s3fs

WITHOUT_CHECKSUM_HEADERS = {
    "response_checksum_validation": "when_required",
    "request_checksum_calculation": "when_required",
}
"""Servers other than AWS send the whole object's checksum with a range of it (rclone) or
refuse the new headers; content is checked by the sha256 in manifests instead."""

LEAST_PIECE = 5 << 20  # bytes of a part of an upload that is not the last: S3's own limit
MOST_COPIED = (
    1 << 30
)  # bytes of one server-side copy; S3 allows 5 GiB, shorter ones overlap
PIECES_AHEAD = 4  # on their way at once

MOST_SKEW = timedelta(minutes=15)
"""Between the times of a request and of the server.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
RequestTimeTooSkewed.
"""


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

    def __post_init__(self) -> None:
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)


def _check_endpoint(url: str) -> None:
    """Refuse what no server's address is; a password in it is not repeated."""
    expected = "expected http://host:port or https://host, without a path"
    try:
        parts = urlsplit(url)
        has_host = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise InputError(f"endpoint_url is not a URL; {expected}") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "endpoint_url has a user name or a password in it, which S3 has no use for; "
            "write them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, "
            f"or as a profile of AWS's tools, and the endpoint without: {expected}"
        )
    if not has_host:
        raise InputError(f"endpoint_url is {url!r}; {expected}")


@dataclass(frozen=True)
class S3Storage(Storage):
    """A prefix of a bucket. A write is one request, or one multipart upload."""

    bucket: str
    prefix: str = ""
    settings: S3Settings = field(default_factory=S3Settings)
    _retries: Retries = field(
        default_factory=partial(Retries, first_tries=1),
        init=False,
        repr=False,
        compare=False,
    )

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        top = self._place(folder) if folder else self.url.removeprefix("s3://")
        found: dict[str, dict[str, Any]] = self._ask(
            self.file_system.find, top, detail=True, refresh=True
        )
        start = len(self.url.removeprefix("s3://")) + 1
        names = {name[start:]: info for name, info in found.items()}
        return sorted_listing(names, _stored, suffix)

    def stat(self, path: str) -> StoredFile:
        with self._refusals_in_words(path):
            info = self._ask(self.file_system.info, self._place(path), refresh=True)
        if info["type"] != "file":
            raise NotFoundError(f"{self.url}/{path}: expected a file, found a folder")
        return _stored(path, info)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            self.stat(path)  # S3 has no empty ranges, but the file must be there
            return b""
        place = self._place(path)
        return cast(bytes, self._ask(self._read_range, place, start, stop))

    def read_version(
        self, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        if stop is not None and stop <= start:
            return super().read_version(file, start, stop)
        place = self._place(file.path)
        data, tag = cast(
            tuple[bytes, str], self._ask(self._read_tagged, place, start, stop)
        )
        if tag and tag != file.version:
            raise replaced(self, file, self.stat(file.path))
        return data

    def open_reader(self, path: str) -> BinaryIO:
        place = self._place(path)
        with self._refusals_in_words(path):
            file = self._ask(self.file_system.open, place, "rb")
        # a reader asks the server long after it was opened
        fetch = _translating(place, file.cache.fetcher)
        file.cache.fetcher = lambda *args: self._retries.call(partial(fetch, *args))
        return cast(BinaryIO, file)

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        place = self._place(path)
        file = self._call(self.file_system.open, place, "wb")
        file.flush = _translating(place, file.flush)  # sends what is full, and the rest
        try:
            yield file
            file.close()
        except BaseException:
            # s3fs publishes what it holds when a file is closed or forgotten, also
            # after an error; a discarded file that counts as closed is never published.
            with suppress(Exception):  # a server that refuses this too keeps it, unseen
                file.discard()
            file.closed = True
            raise

    def create(self, path: str, data: bytes) -> bytes:
        """Write a file by one conditional request, if there is none.

        A server that knows no conditions replaces a file that came since this looked;
        whoever wrote that one finds out when it looks again.
        """
        place = self._place(path)

        def create() -> bytes:
            # asked first for the sake of servers that know no conditions
            if not self.exists(path):
                self._call(self._put_new, place, data)
            return self.read(path)

        return self._retries.call(create)

    def _put_new(self, place: str, data: bytes) -> None:
        """Send a file, if the server finds none; it is no error if there is one."""
        bucket, _, key = place.partition("/")
        sent = {"Bucket": bucket, "Key": key, "Body": data}
        try:
            self.file_system.call_s3("put_object", **sent, IfNoneMatch="*")
        except Exception as error:
            if _code(error) == "NotImplemented":
                self.file_system.call_s3("put_object", **sent)
            elif not isinstance(error, FileExistsError) and _code(error) not in _TAKEN:
                raise

    def write_parts(
        self, path: str, parts: Iterable[Part], check: Callable[[], None] | None = None
    ) -> None:
        """Put a file together; long ranges of the same server are copied by the server.

        A part of a multipart upload has at least 5 MiB, so shorter ranges pass through
        this process, and so does everything if the server can't copy ranges.
        """
        parts = list(parts)
        pieces = list(plan_upload(parts, self._serves))
        worth_it = any(isinstance(piece, ByteRange) for piece in pieces)
        if not (worth_it and self._upload(path, pieces, check)):
            super().write_parts(path, parts, check)

    def unfinished(self, folder: str = "") -> list[StoredFile]:
        """List the multipart uploads under way, with their ids as versions."""
        top = f"{self._place(folder) if folder else self.url.removeprefix('s3://')}/"
        bucket, _, prefix = top.partition("/")
        start = len(self.prefix) + 1 if self.prefix else 0
        asked: dict[str, str] = {"Bucket": bucket, "Prefix": prefix}
        found = []
        while True:
            answer = self._ask(self._list_uploads, top, asked)
            for upload in answer.get("Uploads", []):
                began = int(upload["Initiated"].timestamp() * 1e9)
                path = upload["Key"][start:]
                found.append(StoredFile(path, 0, upload["UploadId"], began))
            if not answer.get("IsTruncated"):
                return sorted(found, key=lambda file: file.path)
            asked |= {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer["NextUploadIdMarker"],
            }

    def _list_uploads(self, _: str, asked: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = self.file_system.call_s3(
                "list_multipart_uploads", **asked
            )
        except Exception as error:
            if _code(error) in _CAN_NOT_LIST:
                return {}
            raise
        return answer

    def discard(self, file: StoredFile) -> None:
        bucket, _, key = self._place(file.path).partition("/")
        address = {"Bucket": bucket, "Key": key, "UploadId": file.version}

        def abort(_: str) -> None:
            self.file_system.call_s3("abort_multipart_upload", **address)

        with suppress(NotFoundError):
            self._ask(abort, self._place(file.path))

    def delete(self, path: str) -> None:
        self._call(self.file_system.rm_file, self._place(path))

    def copy(self, source: str, path: str) -> None:
        """Have the server copy a file; in pieces at once from 1 GiB on.

        Where the server has no copies of objects, the bytes pass through this process.
        """
        if self.stat(source).size >= MOST_COPIED or not self._copy_object(source, path):
            super().copy(source, path)

    def _copy_object(self, source: str, path: str) -> bool:
        """Copy by one request; tell whether the server says that it did."""
        from_bucket, _, from_key = self._place(source).partition("/")
        bucket, _, key = self._place(path).partition("/")

        def ask(_: str) -> Any:
            return self.file_system.call_s3(
                "copy_object",
                Bucket=bucket,
                Key=key,
                CopySource={"Bucket": from_bucket, "Key": from_key},
            )

        answer = self._call(ask, self._place(source))
        return bool(answer.get("CopyObjectResult", {}).get("ETag"))

    @property
    def file_system(self) -> "s3fs.S3FileSystem":
        return once_per_process(self, "_file_system", self._connect)

    def _connect(self) -> "s3fs.S3FileSystem":
        import s3fs
        from aiobotocore.session import AioSession

        settings = self.settings
        session = AioSession(profile=settings.profile)
        session.register_component("data_loader", _service_descriptions())
        return s3fs.S3FileSystem(
            session=session,
            anon=settings.anonymous,
            endpoint_url=settings.endpoint_url,
            config_kwargs=WITHOUT_CHECKSUM_HEADERS,
            client_kwargs={"region_name": settings.region} if settings.region else {},
            use_listings_cache=False,
            skip_instance_cache=True,  # credentials may have changed since
        )

    def _serves(self, part: ByteRange) -> bool:
        storage = part.storage
        return isinstance(storage, S3Storage) and storage.settings == self.settings

    def _upload(
        self,
        path: str,
        pieces: list[ByteRange | list[Part]],
        check: Callable[[], None] | None,
    ) -> bool:
        """Write a file by a multipart upload; tell whether the server can copy ranges."""
        upload = _Upload(self, path)
        try:
            done = upload.run(pieces)
            if done and check:
                check()
        except BaseException:
            upload.abort()
            raise
        if done:
            upload.complete()
        else:
            upload.abort()
        return done

    def _read_range(self, place: str, start: int, stop: int | None) -> bytes:
        try:
            cat_file = self.file_system.cat_file
            return cast(bytes, cat_file(place, start=start or None, end=stop))
        except OSError as error:
            if _code(error) in _ENDS_BEFORE:
                return b""
            raise

    def _read_tagged(self, place: str, start: int, stop: int | None) -> tuple[bytes, str]:
        """Read a range, and the ETag that the server sends along with it."""
        from fsspec.asyn import sync

        try:
            return cast(
                tuple[bytes, str],
                sync(self.file_system.loop, self._get, place, start, stop),
            )
        except OSError as error:
            if _code(error) in _ENDS_BEFORE:
                return b"", str(self.file_system.info(place, refresh=True)["ETag"]).strip(
                    '"'
                )
            raise

    async def _get(self, place: str, start: int, stop: int | None) -> tuple[bytes, str]:
        bucket, _, key = place.partition("/")
        wanted = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        answer = await self.file_system._call_s3(
            "get_object",
            Bucket=bucket,
            Key=key,
            **(wanted if start or stop is not None else {}),
        )
        async with answer["Body"] as body:
            data = await body.read()
        return data, str(answer.get("ETag", "")).strip('"')

    def _ask(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call s3fs as :meth:`_call`, again and again if need be."""
        return self._retries.call(lambda: self._call(call, *args, **kwargs))

    def _place(self, path: str) -> str:
        return f"{self.url.removeprefix('s3://')}/{checked_path(path)}"

    @contextmanager
    def _refusals_in_words(self, path: str) -> Iterator[None]:
        """Tell a refusal of one object from one of everything, such as of expired keys.

        The answer to a HEAD request is a bare status, that to a GET names the reason.
        """
        try:
            yield
        except InputError:
            self.read(path, 0, 1)
            raise

    def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call s3fs, and raise this package's errors for its own."""
        is_about_a_place = args and isinstance(args[0], str)
        where = args[0] if is_about_a_place else self.url.removeprefix("s3://")
        return _translating(where, call)(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_file_system"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@cache
def _service_descriptions() -> Any:
    """Give what reads botocore's descriptions of services, and keeps what it has read.

    Connections share it: reading and parsing them anew took 0.13 of the 0.17 s that a
    connection takes. Credentials are not in it; each connection looks for its own.
    """
    from aiobotocore.session import AioSession

    return AioSession().get_component("data_loader")


_ENDS_BEFORE = ("InvalidRange", "416")
"""Codes that a range is answered with that starts behind the end of its file."""

_CAN_NOT_LIST = ("NotImplemented", "MethodNotAllowed", "AccessDenied", "NoSuchUpload")
"""Codes of servers that don't tell which uploads are under way, or not to us."""

_TAKEN = ("PreconditionFailed", "412")
"""Codes of refusals to write a file because there is one."""

_REFUSALS = ("InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed", "400")
"""Codes of refusals that s3fs takes for errors of the call. To a HEAD request with a token
that has expired AWS answers by a bare 400."""


_NO_CONNECTION = ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError")

_OF_ONE_OBJECT = ("AccessDenied", "InvalidObjectState")
"""Codes of refusals that other objects need not meet: by a policy, of what is archived."""


def plan_upload(
    parts: Iterable[Part], can_copy: Callable[[ByteRange], bool]
) -> Iterator[ByteRange | list[Part]]:
    """Divide parts of a file into pieces of at least 5 MiB; the last may be shorter.

    Yields:
        A range of at most 1 GiB that the server shall copy, or what is to be sent.
    """
    sent: list[Part] = []
    sent_bytes = 0
    for part in parts:
        size = part_size(part)
        if isinstance(part, bytes) or size < 2 * LEAST_PIECE or not can_copy(part):
            sent.append(part)
            sent_bytes += size
            continue
        start = part.start
        if sent:
            # what is too short to be a piece takes its missing bytes from this range
            start += max(LEAST_PIECE - sent_bytes, 0)
            yield [*sent, replace(part, stop=start)]
            sent, sent_bytes = [], 0
        yield from _copies(replace(part, start=start))
    if sent:
        yield sent


def _copies(part: ByteRange) -> Iterator[ByteRange]:
    size = part_size(part)
    count = -(-size // MOST_COPIED)
    cuts = [part.start + size * number // count for number in range(count + 1)]
    for start, stop in pairwise(cuts):
        yield replace(part, start=start, stop=stop)


class _Upload:
    """One multipart upload of one file, by pieces."""

    def __init__(self, storage: S3Storage, path: str) -> None:
        self._storage = storage
        self._place = storage._place(path)
        bucket, _, key = self._place.partition("/")
        self._address = {"Bucket": bucket, "Key": key}
        self._tags: list[str] = []
        answer = self._ask("create_multipart_upload")
        self._address["UploadId"] = answer["UploadId"]

    def run(self, pieces: list[ByteRange | list[Part]]) -> bool:
        """Bring all pieces there; tell whether the server can copy ranges.

        Servers that can't may take a copy for an empty upload and say nothing of it, but
        then their answer has no ETag of a copy.
        """
        for tag in run_ahead(self._calls(pieces), PIECES_AHEAD):
            if not tag:
                return False
            self._tags.append(tag)
        return True

    def complete(self) -> None:
        """Make the file appear."""
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(self._tags, 1)]
        self._ask("complete_multipart_upload", MultipartUpload={"Parts": parts})

    def abort(self) -> None:
        """Forget what was uploaded; a server that can't be reached keeps it, unseen."""
        with suppress(CurationError):
            self._ask("abort_multipart_upload")

    def _calls(self, pieces: list[ByteRange | list[Part]]) -> Iterator[Callable[[], str]]:
        number = count(1)
        for piece in pieces:
            if isinstance(piece, ByteRange):
                yield partial(self._copy, next(number), piece)
                continue
            for block in _joined(part_blocks(piece)):
                yield partial(self._send, next(number), block)

    def _copy(self, number: int, part: ByteRange) -> str:
        assert isinstance(part.storage, S3Storage)
        bucket, _, key = part.storage._place(part.path).partition("/")
        answer = self._ask(
            "upload_part_copy",
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": key},
            CopySourceRange=f"bytes={part.start}-{part.stop - 1}",
        )
        return str(answer.get("CopyPartResult", {}).get("ETag", ""))

    def _send(self, number: int, block: bytes) -> str:
        return str(self._ask("upload_part", PartNumber=number, Body=block)["ETag"])

    def _ask(self, method: str, **arguments: Any) -> Any:
        def ask(_: str) -> Any:
            return self._storage.file_system.call_s3(method, **self._address, **arguments)

        return self._storage._call(ask, self._place)


def _joined(blocks: Iterable[Buffer]) -> Iterator[bytes]:
    """Join blocks to such that can be pieces, if all together can."""
    buffer = bytearray()
    for block in blocks:
        buffer += block
        if len(buffer) >= 2 * COPY_BLOCK:
            yield bytes(buffer[:COPY_BLOCK])
            del buffer[:COPY_BLOCK]
    yield bytes(buffer)


def _translating(where: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a call of s3fs raise this package's errors about a place."""

    def translated(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except CurationError:
            raise
        except Exception as error:
            raise _translated(where, error) from cause_to_show(error)

    return translated


def _translated(where: str, error: Exception) -> CurationError:
    name = type(error).__name__
    if _code(error) == "NoSuchBucket":
        return NotFoundError(
            f"s3://{where}: there is no bucket {where.partition('/')[0]!r} at this "
            "endpoint; correct its name, or `s3.endpoint_url`, or create it"
        )
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"s3://{where}: there is no such object")
    if _code(error) in _OF_ONE_OBJECT:
        return PathError(f"s3://{where}: {_refusal(error)}")
    if isinstance(error, PermissionError) or _code(error) in _REFUSALS:
        return InputError(f"s3://{where}: {_refusal(error)}")
    if name == "FileExpired":
        return StaleError(
            f"s3://{where}: it was replaced while it was being read; run again what reads "
            "it, for what is there now"
        )
    if name in ("NoCredentialsError", "ProfileNotFound", "PartialCredentialsError"):
        return InputError(
            f"s3://{where}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "name a profile, or use anonymous access for a public bucket"
        )
    failed = StorageError(f"s3://{where}: {name}: {error}; the same call may work later")
    failed.reached = name not in _NO_CONNECTION
    return failed


def _code(error: Exception) -> str:
    """Give S3's name of an error of s3fs; of an answer to a HEAD request, the status."""
    answer = getattr(error.__cause__, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def _refusal(error: Exception) -> str:
    """Say why a server refuses a request: in its own words, or by its clock.

    The clocks are compared here since the answer to a HEAD request has no words.
    """
    answer = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
    said = parsedate_tz(answer.get("HTTPHeaders", {}).get("date", ""))
    if said is not None:
        theirs, ours = datetime.fromtimestamp(mktime_tz(said), UTC), datetime.now(UTC)
        if abs(ours - theirs) > MOST_SKEW:
            return (
                f"this machine's clock says {ours:%Y-%m-%d %H:%M:%S} UTC and the server's "
                f"{theirs:%Y-%m-%d %H:%M:%S}; S3 refuses requests whose times are more "
                "than 15 minutes apart: set this machine's clock, and have it kept by NTP"
            )
    return (
        f"access denied ({error}); check the credentials, which may have expired, the "
        "region, the profile and the bucket's policy"
    )


def _stored(path: str, info: dict[str, Any]) -> StoredFile:
    written_ns = int(info["LastModified"].timestamp()) * 1_000_000_000
    return StoredFile(path, info["size"], str(info["ETag"]).strip('"'), written_ns)
