"""Following the chain of headers through a tar: the inside of ``tar.py``.

A header says how long its member's data is, and so where the next header lies. Where
members lie close together, NumPy looks at a window of the file as a whole and takes all
members that are plain; Python goes from header to header for the others, and where it
pays to skip the data. What one header says belongs in ``tar_header.py``.
"""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from curation.errors import shortened
from curation.tar_header import (
    BLOCK,
    CONTIGUOUS,
    FILE,
    GLOBAL,
    OCTAL_DIGITS,
    ZERO_BLOCK,
    Records,
    checksum_is_right,
    header_name,
    padded,
    parse_global_header,
    parse_headers,
)
from curation.tar_window import checksums_are_right, plain_members

AFTER_THE_END = "bytes after the end of the archive"
"""The reason of what no sample can miss: readers of tars pass over it."""
ZEROS_AFTER_THE_END = "far more zeros than end an archive"
_MOST_ZEROS = 4 << 20  # that pad an archive: records of tapes have up to 4 MiB

_PLAIN, _NONE = frozenset((FILE, CONTIGUOUS)), frozenset[int]()
_BATCH = 2048  # headers verified at once: 1 MiB, which stays in the processor's cache
_MOST_LEAST = 16 << 10  # bytes read for the next header, however long earlier ones were
_WHOLE_WINDOW = 32 << 10  # bytes from which looking at a window as a whole pays

_CUT_OFF = "it was probably cut off on its way here: upload the shard again"
_SIGNATURES = {
    b"\x1f\x8b": "compressed with gzip: decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: decompress it",
    b"BZh": "compressed with bzip2: decompress it",
    b"\xfd7zXZ\0": "compressed with xz: decompress it",
    b"\x04\x22\x4d\x18": "compressed with lz4: decompress it",
    b"PK\x03\x04": "a zip archive: pack its files into a tar",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file that it stands for",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: pack its files into a tar",
    b"Rar!\x1a\x07": "a RAR archive: pack its files into a tar",
    b"\x1f\x9d": "compressed with compress: decompress it",
    b"PAR1": "a Parquet table: give it a name that ends with .parquet",
    b"ARROW1": "an Arrow table: give it a name that says so",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array: give it a name that ends with .npy",
    b"SQLite format 3": "an SQLite database",
    b"\xff\xd8\xff": "a JPEG image: pack images into a tar",
    b"\x89PNG": "a PNG image: pack images into a tar",
    b"%PDF": "a PDF document",
}
"""How files begin that are often found under the name of a tar."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes of a shard that no sample has, and why."""

    start: int
    stop: int
    name: str
    """The member's name; empty if the bytes belong to none that is known."""
    reason: str


@dataclass(frozen=True, slots=True)
class FileAccess:
    """How to read a file, and which reads are cheap."""

    read: Callable[[int, int], bytes]
    """Bytes from a start to a stop; fewer where the file ends."""
    size: int
    """Of the file, in bytes."""
    window: int
    """Most bytes to read at once."""
    gap: int
    """Bytes that are read in the time that one more request takes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive members with right checksums. Positions are bytes of the file."""

    headers: np.ndarray
    """``(N, 512)`` uint8: each member's own header block."""
    header_starts: np.ndarray
    data_starts: np.ndarray
    sizes: np.ndarray
    """``(N,)`` int64, like the starts."""
    names: dict[int, bytes]
    """Row to name, where an extension header has it."""
    kinds: dict[int, int]
    """Row to kind, where it isn't the type flag of the header."""


@dataclass(slots=True)
class _Pending:
    """Consecutive members that Python took one by one, and did not verify yet."""

    headers: list[bytes] = field(default_factory=list)
    header_starts: list[int] = field(default_factory=list)
    data_starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    names: dict[int, bytes] = field(default_factory=dict)
    kinds: dict[int, int] = field(default_factory=dict)
    extensions: list[bytes] = field(default_factory=list)
    """Header blocks that stand before members' own."""
    extension_starts: list[int] = field(default_factory=list)
    """Where the members begin to which they belong."""


class TarWalk:
    """One way through a file, from header to header."""

    def __init__(self, access: FileAccess) -> None:
        self.damage: Loss | None = None
        """From where on the tar is damaged; known when all batches were taken."""
        self.trailing: Loss | None = None
        """What follows the end of the archive and is not zeros; known then, too."""
        self.global_headers: list[tuple[int, int]] = []
        self._access = access
        self._pending = _Pending()
        self._position = 0
        self._window_stop = 0
        self._least = self._reach = BLOCK
        self._needed = 0
        self._shared: Records = {}
        self._archive_end = 0
        self._ended = False

    def batches(self) -> Iterator[Batch]:
        """Yield the members before the end or the first damage."""
        window = self._read_window()
        while not self._ended:
            at = 0
            look = len(window) >= _WHOLE_WINDOW and not self._shared
            run = self._plain_run(window) if look else None
            if run or len(self._pending.headers) >= _BATCH:
                yield from self._verified()
            if run and not self._ended:
                batch, at = run
                yield batch
            window = self._collect(window, at)
        yield from self._verified()
        if not self.damage:
            self._look_behind_the_end()

    def _read_window(self) -> bytes:
        """Read on where members lie close together, only the next header elsewhere."""
        if self._position - self._window_stop > self._access.gap:
            self._reach = self._least
        elif self._reach < self._access.window:
            self._reach *= 2
        self._window_stop = self._position + max(self._reach, self._needed)
        self._needed = 0
        inside = self._position < self._access.size
        window = self._access.read(self._position, self._window_stop) if inside else b""
        if len(window) < BLOCK:
            self._stop_short(len(window))
        return window

    def _plain_run(self, window: bytes) -> tuple[Batch, int] | None:
        """Take the plain members at the begin of a window, and tell where the next is."""
        found = plain_members(window)
        # the last one may need more than the file has, and is looked at more closely
        num = np.searchsorted(
            found.stops, (self._access.size - self._position) // BLOCK, "right"
        )
        if not num:
            return None
        batch = Batch(
            found.headers[:num],
            self._position + BLOCK * found.header_starts[:num],
            self._position + BLOCK * found.data_starts[:num],
            found.sizes[:num],
            {},
            {},
        )
        return batch, BLOCK * int(found.stops[num - 1])

    def _collect(self, window: bytes, at: int) -> bytes:
        """Take members one by one up to a window that should be looked at as a whole."""
        pending, base = self._pending, self._position
        plain = _NONE if self._shared else _PLAIN
        while not self._ended:
            if at + BLOCK > len(window):
                self._position = base = base + at
                window, at = self._read_window(), 0
                if len(window) >= _WHOLE_WINDOW or len(pending.headers) >= _BATCH:
                    break
                continue
            header = window[at : at + BLOCK]
            digits = header[124:135]
            # the common case comes first and calls nothing of ours: that is its speed
            if (
                header[156] in plain
                and header[135] <= 32
                and not digits.strip(OCTAL_DIGITS)
            ):
                size = int(digits, 8)
                pending.headers.append(header)
                pending.header_starts.append(base + at)
                at += BLOCK
                pending.data_starts.append(base + at)
                pending.sizes.append(size)
                at += size + -size % BLOCK
            elif header == ZERO_BLOCK:
                self._archive_end, self._ended = base + at, True
            elif following := self._collect_special(window, at):
                at = following
                plain = _NONE if self._shared else _PLAIN
            else:
                window = window[:at]  # the next one begins here
        return window

    def _collect_special(self, window: bytes, at: int) -> int | None:
        """Take a member of any kind, or a global header; tell where the next one begins.

        Returns:
            None if this one is damaged, or its headers end behind the window.
        """
        try:
            if window[at + 156] == GLOBAL:
                following = self._collect_global(window, at)
            else:
                following = self._collect_member(window, at)
        except ValueError as error:
            self._stop(self._position + at, f"this is no tar header: {error}")
            return None
        if following is None and self._position + len(window) >= self._access.size:
            self._stop(self._position + at, f"a member's headers are not whole; {_CUT_OFF}")
        elif following is None and at == 0:
            self._needed = 2 * len(window)
            self._least = min(self._needed, _MOST_LEAST)
        return following

    def _collect_member(self, window: bytes, at: int) -> int | None:
        found = parse_headers(window, at, self._shared)
        if found is None:
            return None
        pending, row = self._pending, len(self._pending.headers)
        *before, own = (window[block : block + BLOCK] for block in found.blocks)
        pending.extensions += before
        pending.extension_starts += [self._position + at] * len(before)
        self.global_headers += [
            (self._position + start, self._position + stop)
            for start, stop in found.global_headers
        ]
        if found.name is not None:
            pending.names[row] = found.name
        if found.kind != own[156]:
            pending.kinds[row] = found.kind
        pending.headers.append(own)
        pending.header_starts.append(self._position + at)
        pending.data_starts.append(self._position + found.data_start)
        pending.sizes.append(found.size)
        return found.data_start + padded(found.size)

    def _collect_global(self, window: bytes, at: int) -> int | None:
        found = parse_global_header(window, at)
        if found is None:
            return None
        end, shared = found
        self._shared |= shared
        self._pending.extensions.append(window[at : at + BLOCK])
        self._pending.extension_starts.append(self._position + at)
        if not shared:  # else it would name members that stand before it, once it is first
            self.global_headers.append((self._position + at, self._position + end))
        return end

    def _verified(self) -> Iterator[Batch]:
        """Yield the pending members before the first checksum that is wrong."""
        pending, self._pending = self._pending, _Pending()
        if not pending.headers and not pending.extensions:
            return
        blocks = np.frombuffer(b"".join(pending.headers + pending.extensions), np.uint8)
        blocks = blocks.reshape(-1, BLOCK)
        starts = np.array(pending.header_starts + pending.extension_starts, np.int64)
        num = len(pending.headers)
        if len(wrong := starts[~checksums_are_right(blocks)]):
            self._stop(
                int(wrong.min()),
                "the checksum of a header is wrong: upload the shard again",
            )
            num = int(np.searchsorted(starts[:num], wrong.min()))
        yield Batch(
            blocks[:num],
            starts[:num],
            np.array(pending.data_starts[:num], np.int64),
            np.array(pending.sizes[:num], np.int64),
            {row: name for row, name in pending.names.items() if row < num},
            {row: kind for row, kind in pending.kinds.items() if row < num},
        )

    def _stop(self, start: int, reason: str, name: str = "") -> None:
        """End the walk at damage, which is before any that was found."""
        if start == 0:
            reason = _signature(self._access.read(0, BLOCK)) or reason
        self.damage = Loss(start, self._access.size, name, shortened(reason))
        self._ended = True

    def _stop_short(self, num_left: int) -> None:
        """End the walk where less than a header is left to read."""
        position, file_size = self._position, self._access.size
        if position > file_size:
            self._stop_in_data()
        elif position + num_left < file_size:
            self._stop(position, "the file became shorter while it was read")
        elif num_left:
            self._stop(
                position, f"{num_left} bytes are left, less than a header; {_CUT_OFF}"
            )
        elif position:
            self._stop(position, f"the archive has no end; {_CUT_OFF}")
        else:
            self._stop(position, "the file is empty: upload the shard again")

    def _stop_in_data(self) -> None:
        """End the walk before the last member, whose data the file doesn't have."""
        pending = self._pending
        header, size = pending.headers.pop(), padded(pending.sizes.pop())
        start, data_start = pending.header_starts.pop(), pending.data_starts.pop()
        row = len(pending.headers)
        pending.kinds.pop(row, None)
        name = text_of(pending.names.pop(row, b"") or header_name(header))
        left = self._access.size - data_start
        reason = f"member {name} needs {size} bytes, {left} are left; {_CUT_OFF}"
        self._stop(start, reason, name)

    def _look_behind_the_end(self) -> None:
        """See whether zeros follow the end of the archive, members, or anything else.

        A download that room was made for, and that did not finish, ends in zeros.
        """
        end, read = self._archive_end, self._access.read
        position = end
        while window := read(position, position + self._access.window):
            zeros = len(window) - len(window.lstrip(b"\0"))
            position += zeros
            if zeros < len(window):
                self._judge(position - position % BLOCK)
                return
        if position - end > _MOST_ZEROS:
            self.trailing = Loss(end, position, "", ZEROS_AFTER_THE_END)

    def _judge(self, start: int) -> None:
        """Say what it means that a block behind the end of the archive isn't zeros."""
        end = self._archive_end
        if start < end + 2 * BLOCK:
            self._stop(end, "a single block of zeros stands between members or data")
        elif checksum_is_right(self._access.read(start, start + BLOCK)):
            what = f"the archive ends, but a member follows at byte {start}"
            self._stop(end, f"{what}: tars were joined, or zeros were written over members")
        else:
            self.trailing = Loss(start, self._access.size, "", AFTER_THE_END)


def text_of(name: bytes) -> str:
    r"""Decode a name; bytes that are no UTF-8 become ``\xff``."""
    return name.decode(errors="backslashreplace")


def _signature(begin: bytes) -> str:
    """Name what a file is that is no tar; empty if it may be one, or nothing known."""
    if begin[257:262] == b"ustar":
        return ""
    for signature, what in _SIGNATURES.items():
        if begin.startswith(signature):
            return f"this is no tar, but {what}"
    what = _text(begin)
    return f"this is no tar, but {what}" if what else ""


def _text(begin: bytes) -> str:
    """Say what text a file holds; empty if it is none."""
    decoder = codecs.getincrementaldecoder(_ENCODINGS.get(begin[:2], "utf-8-sig"))()
    try:
        text = decoder.decode(begin).strip()  # the last character may be cut
    except UnicodeDecodeError:
        return ""
    if not text or any((ord(c) < 32 and not c.isspace()) or c == "\x7f" for c in text):
        return ""
    if text.startswith("<"):
        is_error = "<error>" in text.lower() or "<code>" in text.lower()
        what = "an XML error of the server" if is_error else "an HTML or XML page"
        return f"{what}: download the shard again"
    if text[0] in "{[":
        return f"JSON: {text[:_SHOWN]!r}; download the shard again"
    return f"text: {text[:_SHOWN]!r}; upload the shard again"


_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SHOWN = 60  # characters of a text that is no tar
