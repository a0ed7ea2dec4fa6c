"""Multipart uploads: one file that is brought to an S3 server by pieces."""

import io
import re
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import md5
from itertools import pairwise
from typing import Any, Protocol

from curation.errors import CurationError, NotFoundError
from curation.storage.base import (
    COPY_BLOCK,
    Buffer,
    ByteRange,
    Part,
    StoredFile,
    part_blocks,
    part_size,
)

LEAST_PIECE = 5 << 20  # bytes of a part of an upload that is not the last: S3's own limit
MOST_COPIED = (
    1 << 30
)  # bytes of one server-side copy; S3 allows 5 GiB, shorter ones overlap
PIECE = 16 << 20  # bytes of a part that is sent as it is written; S3 allows 10,000 parts
PIECES_AHEAD = 4  # on their way at once
COPIES_FASTER = 100  # times than what is sent, at least, that a server copies

_MD5 = re.compile("[0-9a-f]{32}")


class CanNotCopyError(Exception):
    """The server says that it copied a range, and not what came of it."""


class Server(Protocol):
    """What an upload needs of an S3 storage."""

    def request(self, method: str, path: str, size: int = 0, **arguments: Any) -> Any:
        """Make one request about one file, again and again if need be."""

    def address(self, path: str) -> dict[str, str]:
        """Give the bucket and key of a file, by the names of S3's arguments."""

    def stat(self, path: str) -> StoredFile:
        """Look up one file's size and version."""


class Upload:
    """One multipart upload of one file. Pieces are on their way while others are added."""

    def __init__(self, server: Server, path: str) -> None:
        self._server, self._path = server, path
        begun = server.request("create_multipart_upload", path)
        self._id = {"UploadId": begun["UploadId"]}
        self._threads = ThreadPoolExecutor(PIECES_AHEAD)
        self._under_way: deque[Future[str]] = deque()
        self._tags: list[str] = []
        self._count = 0

    def send(self, block: bytes) -> None:
        """Add bytes, at least 5 MiB unless they are the last."""
        self._add(partial(self._sent, self._next(), block))

    def copy(self, part: ByteRange, address: dict[str, str]) -> None:
        """Have the server add a range of another file, which has an address there.

        Raises:
            CanNotCopyError: Here or by :meth:`complete`: it can't.
        """
        self._add(partial(self._copied, self._next(), part, address))

    def complete(self, check: Callable[[], None] | None = None) -> None:
        """Make the file appear, when all is there and a check raises nothing."""
        self._wait(0)
        if check:
            check()
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(self._tags, 1)]
        try:
            self._ask("complete_multipart_upload", MultipartUpload={"Parts": parts})
        except NotFoundError:
            # an answer that was lost said that it is done, and what is done is forgotten
            if not self._is_there():
                raise
        self._threads.shutdown()

    def abort(self) -> None:
        """Forget what was uploaded; a server that can't be reached keeps it, unseen."""
        self._threads.shutdown(cancel_futures=True)
        with suppress(CurationError):
            self._ask("abort_multipart_upload")

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _add(self, call: Callable[[], str]) -> None:
        self._under_way.append(self._threads.submit(call))
        self._wait(PIECES_AHEAD)

    def _wait(self, most: int) -> None:
        """Wait until at most so many pieces are on their way."""
        while len(self._under_way) > most:
            self._tags.append(self._under_way.popleft().result())

    def _sent(self, number: int, block: bytes) -> str:
        answer = self._ask("upload_part", len(block), PartNumber=number, **as_body(block))
        return str(answer["ETag"])

    def _copied(self, number: int, part: ByteRange, address: dict[str, str]) -> str:
        only = {"CopySourceIfMatch": f'"{part.version.version}"'} if part.version else {}
        answer = self._ask(
            "upload_part_copy",
            part_size(part) // COPIES_FASTER,
            **only,
            PartNumber=number,
            CopySource=address,
            CopySourceRange=f"bytes={part.start}-{part.stop - 1}",
        )
        tag = str(answer.get("CopyPartResult", {}).get("ETag", ""))
        if not tag:  # servers that can't may take it for an empty piece and say nothing
            raise CanNotCopyError
        return tag

    def _is_there(self) -> bool:
        """Tell whether the file is the one of these pieces, by the MD5 of their MD5s."""
        tags = [tag.strip('"') for tag in self._tags]
        if not all(map(_MD5.fullmatch, tags)):
            return False
        digest = md5(bytes.fromhex("".join(tags)), usedforsecurity=False).hexdigest()
        with suppress(NotFoundError):
            return self._server.stat(self._path).version == f"{digest}-{len(tags)}"
        return False

    def _ask(self, method: str, size: int = 0, **arguments: Any) -> Any:
        return self._server.request(method, self._path, size, **self._id, **arguments)


class UploadWriter(io.RawIOBase):
    """Sends what is written, by one request or, if it is long, by an upload of pieces."""

    def __init__(self, server: Server, path: str) -> None:
        self._server, self._path = server, path
        self._held = bytearray()
        self._written = 0
        self._upload: Upload | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._held += view
        self._written += len(view)
        while len(self._held) > PIECE:
            self._upload = self._upload or Upload(self._server, self._path)
            self._upload.send(bytes(self._held[:PIECE]))
            del self._held[:PIECE]
        return len(view)

    def finish(self) -> None:
        """Send the rest, and make the file appear."""
        if self._upload is None:
            data = bytes(self._held)
            self._server.request("put_object", self._path, len(data), **as_body(data))
            return
        self._upload.send(bytes(self._held))
        self._upload.complete()

    def abort(self) -> None:
        """Forget what was written."""
        if self._upload is not None:
            self._upload.abort()


def as_body(data: bytes) -> dict[str, Any]:
    """Give bytes as arguments of a request, and an MD5 that the server compares."""
    digest = md5(data, usedforsecurity=False).digest()
    return {"Body": data, "ContentMD5": b64encode(digest).decode()}


def can_be_one_copy(size: int) -> bool:
    """Tell whether a server copies so many bytes by one request."""
    return size < MOST_COPIED


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


def blocks_to_send(piece: Iterable[Part]) -> Iterator[bytes]:
    """Read a piece in blocks that can be parts of an upload, if the whole piece can."""
    return _joined(part_blocks(piece))


def _copies(part: ByteRange) -> Iterator[ByteRange]:
    size = part_size(part)
    count = -(-size // MOST_COPIED)
    cuts = [part.start + size * number // count for number in range(count + 1)]
    for start, stop in pairwise(cuts):
        yield replace(part, start=start, stop=stop)


def _joined(blocks: Iterable[Buffer]) -> Iterator[bytes]:
    """Join blocks to such that can be pieces, if all together can."""
    buffer = bytearray()
    for block in blocks:
        buffer += block
        if len(buffer) >= 2 * COPY_BLOCK:
            yield bytes(buffer[:COPY_BLOCK])
            del buffer[:COPY_BLOCK]
    yield bytes(buffer)
