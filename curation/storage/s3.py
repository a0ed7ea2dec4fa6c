"""Files under a prefix of an S3 bucket, or of any server that speaks S3.

Every request is repeated while it fails in a way that may pass, and by nobody else:
``retries.py``. No answer is believed as to range, length or version: ``answers.py``. Bytes
are compared with the checksums that S3 has: of a whole file with its ETag, where that is an
MD5, or with what was stored along with it; of what is sent the server gets an MD5.
"""

import asyncio
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import md5
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from curation.errors import CurationError, InputError, NotFoundError
from curation.public_urls import cause_to_show
from curation.storage.answers import Answer, Wanted, wrong_answer
from curation.storage.base import (
    ByteRange,
    Listing,
    Part,
    Storage,
    StoredFile,
    Suffix,
    checked_path,
    once_per_process,
    replaced,
    sorted_listing,
)
from curation.storage.range_reader import RangeReader
from curation.storage.retries import SILENCE_SECONDS, Retries, try_seconds
from curation.storage.s3_errors import (
    CAN_NOT_LIST,
    CONDITION_FAILED,
    ENDS_BEFORE,
    TAKES_NO_CONDITIONS,
    code_of,
    translated,
)
from curation.storage.s3_uploads import (
    COPIES_FASTER,
    CanNotCopyError,
    Upload,
    UploadWriter,
    as_body,
    blocks_to_send,
    can_be_one_copy,
    plan_upload,
)

if TYPE_CHECKING:
    import s3fs

T = TypeVar("T")

CLIENT = {
    # each request is made once; who asks it again is retries.py
    "retries": {"total_max_attempts": 1},
    "connect_timeout": SILENCE_SECONDS,
    "read_timeout": SILENCE_SECONDS,
    # servers other than AWS send the whole object's checksum with a range of it (rclone)
    # or refuse the new headers: they are asked for with whole objects, and MD5s are sent
    "response_checksum_validation": "when_required",
    "request_checksum_calculation": "when_required",
}
"""Settings of botocore's client."""

READ_BUFFER = 128 << 10  # bytes that a reader holds besides what a request brought

FAULTS = (AssertionError, AttributeError, NameError, TypeError)
"""What no server's answer raises, but a fault of this program."""

_MD5 = re.compile("[0-9a-f]{32}")


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
        default_factory=Retries, init=False, repr=False, compare=False
    )
    _mismatches: Counter[str] = field(
        default_factory=Counter, init=False, repr=False, compare=False
    )
    """MD5s of whole files that their ETags were not, though they look like some."""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        pages = self._pages(
            "list_objects_v2", folder, {"ContinuationToken": "NextContinuationToken"}
        )
        found = [about for page in pages for about in page.get("Contents", [])]
        names = {about["Key"][self._prefix_length :]: about for about in found}
        return sorted_listing(names, _stored, suffix)

    def stat(self, path: str) -> StoredFile:
        try:
            return self._ask(path, partial(self._look_up, path))
        except InputError:
            # the answer to a HEAD request is a bare status, that to a GET names the
            # reason: whether one object is refused, or everything, as by expired keys
            self.read(path, 0, 1)
            raise

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            self.stat(path)  # S3 has no empty ranges, but the file must be there
            return b""
        return self._ask(path, partial(self._fetch, path, start, stop))

    def read_version(
        self, file: StoredFile, start: int = 0, stop: int | None = None
    ) -> bytes:
        if stop is not None and stop <= start:
            return super().read_version(file, start, stop)
        if stop is not None and stop >= file.size:
            stop = None  # of a whole file there are checksums, of ranges none
        return self._ask(file.path, partial(self._fetch, file.path, start, stop, file))

    def open_reader(self, path: str) -> BinaryIO:
        return io.BufferedReader(RangeReader(self, self.stat(path)), READ_BUFFER)

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        writer = UploadWriter(self, checked_path(path))
        try:
            yield cast(BinaryIO, writer)
            writer.finish()
        except BaseException:
            writer.abort()
            raise

    def create(self, path: str, data: bytes) -> bytes:
        """Write a file by one conditional request, if there is none.

        A server that knows no conditions replaces a file that came since this looked;
        whoever wrote that one finds out when it looks again.
        """
        # asked first for the sake of servers that know no conditions
        if not self.exists(path):
            self._ask(path, partial(self._put_new, path, data))
        return self.read(path)

    def copies(self, parts: Sequence[Part]) -> bool:
        return any(isinstance(p, ByteRange) for p in plan_upload(parts, self._serves))

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
        follows = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
        found = []
        for page in self._pages("list_multipart_uploads", folder, follows, CAN_NOT_LIST):
            for upload in page.get("Uploads", []):
                began = int(upload["Initiated"].timestamp() * 1e9)
                path = upload["Key"][self._prefix_length :]
                found.append(StoredFile(path, 0, upload["UploadId"], began))
        return sorted(found, key=lambda file: file.path)

    def discard(self, file: StoredFile) -> None:
        with suppress(NotFoundError):
            self.request("abort_multipart_upload", file.path, UploadId=file.version)

    def check_md5(self, file: StoredFile, digest: str) -> None:
        if self._has_md5(file.version):
            self._compare(digest, file.version, Wanted(self._shown(file.path)))

    def delete(self, path: str) -> None:
        self.request("delete_object", path)

    def copy(self, source: str, path: str) -> None:
        """Have the server copy a file; in pieces at once from 1 GiB on.

        Where the server has no copies of objects, the bytes pass through this process.
        """
        size = self.stat(source).size
        if not (can_be_one_copy(size) and self._copy_object(source, path, size)):
            super().copy(source, path)

    def request(self, method: str, path: str, size: int = 0, **arguments: Any) -> Any:
        """Make one request about one file, again and again if need be.

        Args:
            method: Of botocore's client.
            path: Of the file.
            size: Bytes that it moves; a try may take longer by them.
            **arguments: Of the method, apart from ``Bucket`` and ``Key``.
        """
        asked = self.address(path) | arguments
        return self._ask(path, lambda: self._send(method, size, **asked))

    def address(self, path: str) -> dict[str, str]:
        """Give the bucket and key of a file, by the names of S3's arguments."""
        return {"Bucket": self.bucket, "Key": f"{self._top}{checked_path(path)}"}

    @property
    def file_system(self) -> "s3fs.S3FileSystem":
        return once_per_process(self, "_file_system", self._connect)

    def _connect(self) -> "s3fs.S3FileSystem":
        import s3fs
        from aiobotocore.session import AioSession

        settings = self.settings
        session = AioSession(profile=settings.profile)
        session.register_component("data_loader", _service_descriptions())
        connection = s3fs.S3FileSystem(
            session=session,
            anon=settings.anonymous,
            endpoint_url=settings.endpoint_url,
            config_kwargs=CLIENT,
            client_kwargs={"region_name": settings.region} if settings.region else {},
            use_listings_cache=False,
            skip_instance_cache=True,  # credentials may have changed since
        )
        connection.retries = 1
        return connection

    @property
    def _top(self) -> str:
        """What the keys of all files begin with."""
        return f"{self.prefix}/" if self.prefix else ""

    @property
    def _prefix_length(self) -> int:
        return len(self._top)

    def _pages(
        self,
        method: str,
        folder: str,
        follows: Mapping[str, str],
        refusals: tuple[str, ...] = (),
    ) -> Iterator[Mapping[str, Any]]:
        """Ask for a list page by page.

        Args:
            method: Of botocore's client.
            folder: Which the keys on the list are in.
            follows: What is asked of the next page, and where the one before names it.
            refusals: Codes of servers that have no such list.
        """
        top = f"{self._top}{checked_path(folder)}/" if folder else self._top
        asked = {"Bucket": self.bucket, "Prefix": top}

        def ask() -> Mapping[str, Any]:
            try:
                page = cast(Mapping[str, Any], self._send(method, **asked))
            except Exception as error:
                if code_of(error) in refusals:
                    return {}
                raise
            if "IsTruncated" not in page:  # such as a page of a proxy's own
                raise wrong_answer(Wanted(self._shown(folder)), "it sent no list")
            return page

        while True:
            page = self._ask(folder, ask)
            yield page
            if not page.get("IsTruncated"):
                return
            asked |= {name: str(page.get(told, "")) for name, told in follows.items()}

    def _look_up(self, path: str) -> StoredFile:
        about = self._send("head_object", **self.address(path))
        if not about.get("ETag") or "LastModified" not in about:
            raise wrong_answer(Wanted(self._shown(path)), "it told of no version and time")
        return _stored(path, about | {"Size": about["ContentLength"]})

    def _fetch(
        self, path: str, start: int, stop: int | None, file: StoredFile | None = None
    ) -> bytes:
        from fsspec.asyn import sync

        wanted = Wanted(self._shown(path), start, stop)
        try:
            answer, data = sync(self.file_system.loop, self._get, path, wanted, file)
        except Exception as error:
            if file is not None and code_of(error) in CONDITION_FAILED:
                raise self._of_another_version(file, wanted) from None
            if code_of(error) not in ENDS_BEFORE:
                raise
            self._check_end(path, wanted, file)
            return b""
        told = Answer(
            answer["ResponseMetadata"]["HTTPStatusCode"],
            answer.get("ContentRange", ""),
            answer.get("ContentLength"),
        )
        if file is not None and not (
            _tag(answer) == file.version and told.size in (None, file.size)
        ):
            raise self._of_another_version(file, wanted)
        found = told.checked(data, wanted, None if file is None else file.size)
        is_sure = told.has_whole and self._is_md5(data, answer, wanted)
        if file is None and not is_sure and (told.has_whole or len(data) != wanted.size):
            # where a file ends, which nothing but this answer says, is asked again
            file = self._look_up(path)
            if _tag(answer) != file.version:
                raise wrong_answer(wanted, f"it is not of version {file.version}")
            told.checked(data, wanted, file.size)
        return found

    async def _get(
        self, path: str, wanted: Wanted, file: StoredFile | None
    ) -> tuple[Mapping[str, Any], bytes]:
        asked = self.address(path)
        if wanted.is_whole:
            asked["ChecksumMode"] = "ENABLED"  # which botocore then compares
        else:
            asked["Range"] = wanted.header
        if file is not None:
            asked["IfMatch"] = f'"{file.version}"'
        now = asyncio.get_running_loop().time
        async with asyncio.timeout(try_seconds()) as limit:
            answer = await self.file_system._call_s3("get_object", **asked)
            limit.reschedule(now() + try_seconds(answer.get("ContentLength") or 0))
            async with answer["Body"] as body:
                return answer, await body.read()

    def _check_end(self, path: str, wanted: Wanted, file: StoredFile | None) -> None:
        """Check that a file ends before what was asked for, as the server says."""
        found = self._look_up(path)
        if file is not None and found != file:
            raise replaced(self, file, found)
        if wanted.start < found.size:
            raise wrong_answer(wanted, "it said that the file ends before")

    def _of_another_version(self, file: StoredFile, wanted: Wanted) -> CurationError:
        """Say that a file was replaced, or that an answer is of another one only."""
        found = self._look_up(file.path)
        if found != file:
            return replaced(self, file, found)
        return wrong_answer(wanted, f"it is not of {file.size} bytes of {file.version}")

    def _is_md5(self, data: bytes, answer: Mapping[str, Any], wanted: Wanted) -> bool:
        """Tell whether a file's ETag is the MD5 of its bytes.

        Raises:
            StorageError: It may be that a bit flipped on the way.
        """
        is_encrypted = "SSECustomerAlgorithm" in answer or str(
            answer.get("ServerSideEncryption", "")
        ).startswith("aws:kms")
        if is_encrypted or not self._has_md5(_tag(answer)):
            return False
        digest = md5(data, usedforsecurity=False).hexdigest()
        self._compare(digest, _tag(answer), wanted)
        return digest == _tag(answer)

    def _has_md5(self, tag: str) -> bool:
        """Tell whether an ETag is an MD5, as far as its form and those of others tell."""
        has_others = max(self._mismatches.values(), default=0) > 1
        return not has_others and _MD5.fullmatch(tag) is not None

    def _compare(self, digest: str, tag: str, wanted: Wanted) -> None:
        """Compare an MD5 with an ETag that may be one.

        Some servers' ETags only look like MD5s: what is none, twice for the same bytes,
        shows that no ETag of this server is.
        """
        if digest == tag:
            return
        self._mismatches[digest] += 1
        if self._mismatches[digest] == 1:
            raise wrong_answer(wanted, f"its ETag is {tag}, the MD5 of all bytes {digest}")

    def _put_new(self, path: str, data: bytes) -> None:
        """Send a file, if the server finds none; it is no error if there is one."""
        sent = self.address(path) | as_body(data)
        put = partial(self._send, "put_object", len(data), **sent)
        try:
            put(IfNoneMatch="*")
        except Exception as error:
            if code_of(error) in TAKES_NO_CONDITIONS:
                put()
            elif code_of(error) not in CONDITION_FAILED:
                raise

    def _copy_object(self, source: str, path: str, size: int) -> bool:
        """Copy by one request; tell whether the server says that it did."""
        answer = self.request(
            "copy_object", path, size // COPIES_FASTER, CopySource=self.address(source)
        )
        return bool(answer.get("CopyObjectResult", {}).get("ETag"))

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
        upload = Upload(self, path)
        try:
            for piece in pieces:
                if isinstance(piece, ByteRange):
                    source = cast(S3Storage, piece.storage)
                    upload.copy(piece, source.address(piece.path))
                    continue
                for block in blocks_to_send(piece):
                    upload.send(block)
            upload.complete(check)
        except CanNotCopyError:
            upload.abort()
            return False
        except BaseException:
            upload.abort()
            raise
        return True

    def _ask(self, path: str, call: Callable[[], T]) -> T:
        """Make a call about a file or folder, again and again if need be.

        Raises:
            CurationError: For what s3fs and botocore raise.
        """

        def once() -> T:
            try:
                return call()
            except (CurationError, *FAULTS):
                raise
            except Exception as error:
                raise translated(self._shown(path), error) from cause_to_show(error)

        return self._retries.call(once)

    def _send(self, method: str, size: int = 0, /, **arguments: Any) -> Any:
        """Make one request once; it may take longer by the bytes that it moves."""
        from fsspec.asyn import sync

        async def send() -> Any:
            async with asyncio.timeout(try_seconds(size)):
                return await self.file_system._call_s3(method, **arguments)

        return sync(self.file_system.loop, send)

    def _shown(self, path: str) -> str:
        return f"{self.url}/{path}" if path else self.url

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


def _stored(path: str, about: Mapping[str, Any]) -> StoredFile:
    written_ns = int(about["LastModified"].timestamp()) * 1_000_000_000
    return StoredFile(path, about["Size"], _tag(about), written_ns)


def _tag(about: Mapping[str, Any]) -> str:
    return str(about.get("ETag", "")).strip('"')
