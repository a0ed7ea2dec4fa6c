"""Whether a server's answer is what it was asked for: one rule for all that speak HTTP.

Proxies, caches and servers under load send a range that nobody asked for, a whole file in
place of a range, a page of their own, or an end that isn't one. What is wrong raises
:class:`~curation.errors.StorageError`, so that it is asked for again: ``retries.py``.

Source: https://www.rfc-editor.org/rfc/rfc9110#name-range-requests.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from curation.errors import StorageError

WHOLE, PARTIAL, BEYOND_END = 200, 206, 416
"""Statuses of answers: with the whole file, with a range, and with neither."""

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """Bytes ``[start, stop)`` that a server is asked for; without a stop, to the end."""

    place: str
    """Where from, fit to be shown."""
    start: int = 0
    stop: int | None = None

    @property
    def is_whole(self) -> bool:
        """Tell whether it is all of a file, which no range needs to be asked for."""
        return self.start == 0 and self.stop is None

    @property
    def size(self) -> int | None:
        """Give how many bytes it is; None if it ends with the file."""
        return None if self.stop is None else self.stop - self.start

    @property
    def header(self) -> str:
        """Give the value of the ``Range`` header that asks for it."""
        return f"bytes={self.start}-{'' if self.stop is None else self.stop - 1}"

    def __str__(self) -> str:
        end = "the end" if self.stop is None else self.stop
        return f"{self.place}: bytes {self.start} to {end} were asked for"


@dataclass(frozen=True)
class Answer:
    """What a server answered, apart from the body: its status and headers."""

    status: int
    content_range: str = ""
    content_length: int | None = None
    """In bytes, of the body as it was sent."""
    content_encoding: str = ""

    @property
    def size(self) -> int | None:
        """Give the length of the whole file in bytes, if the answer tells it."""
        if told := _RANGE.fullmatch(self.content_range):
            return None if told[3] == "*" else int(told[3])
        return self.content_length if self.has_whole and self._is_as_stored else None

    @property
    def has_whole(self) -> bool:
        """Tell whether the body is the whole file; rclone sends ranges with status 200."""
        return self.status == WHOLE and not self.content_range

    @property
    def _is_as_stored(self) -> bool:
        return self.content_encoding.lower() in ("", "identity")

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str]) -> "Answer":
        """Take from an answer's headers what counts; their names are in any case."""
        told = {name.lower(): value for name, value in headers.items()}
        length = told.get("content-length", "")
        return cls(
            status,
            told.get("content-range", ""),
            int(length) if length.isdecimal() else None,
            told.get("content-encoding", ""),
        )

    def checked(self, data: bytes, wanted: Wanted, size: int | None = None) -> bytes:
        """Return the bytes that were asked for, if this answer and its body have them.

        Args:
            data: The body.
            wanted: What was asked for.
            size: Of the whole file in bytes, if it is known from before.

        Raises:
            StorageError: It is another range, of a file of another size, too short or too
                long, or compressed, or says that the file ends before it does.
        """
        if not self._is_as_stored:
            raise wrong_answer(wanted, f"it sent them compressed ({self.content_encoding})")
        told = self.size
        if size is not None and told is not None and told != size:
            raise wrong_answer(
                wanted, f"it told of a file of {told} bytes, in place of {size}"
            )
        size = told if told is not None else size
        if self.status == BEYOND_END:
            if size is None or wanted.start < size:
                raise wrong_answer(wanted, "it said that the file ends before")
            return b""
        if not self.has_whole:
            self._check_range(data, wanted, size)
            return data
        if size is not None and len(data) != size:
            raise wrong_answer(wanted, f"it sent {len(data)} bytes of {size}")
        return data[wanted.start : wanted.stop]

    def _check_range(self, data: bytes, wanted: Wanted, size: int | None) -> None:
        told = _RANGE.fullmatch(self.content_range)
        if told is None or told[1] is None:
            raise wrong_answer(wanted, f"it sent a range {self.content_range!r}")
        first, last = int(told[1]), int(told[2])
        ends = [end for end in (wanted.stop, size) if end is not None]
        stop = min(ends) if ends else last + 1
        if (first, last + 1, len(data)) != (wanted.start, stop, stop - wanted.start):
            raise wrong_answer(
                wanted, f"it sent {len(data)} as bytes {first} to {last + 1}"
            )


def wrong_answer(wanted: Wanted, found: str) -> StorageError:
    """Say that an answer is not what was asked for."""
    return StorageError(
        f"{wanted}, and the server's answer is wrong: {found}; the same call may work later"
    )
