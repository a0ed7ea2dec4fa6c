r"""DALI's ``.idx``: the text file that tells it where the components of samples lie.

Belongs here: reading and writing that format, and telling whether a file fits its shard.
What makes a sample belongs in ``index.py``.

The first line is ``v1.2 <samples>``; then comes one line per sample, with a group
``<extension> <offset> <size> <name>`` for each component. Everything is separated by
white space, so that a name with a space can't be written as it is. Names are written as
GNU tar prints them, which is what DALI's ``wds2idx`` copies: backslashes and control
characters escaped. A space is escaped in the same way, as ``\040``: DALI reads such
samples, and it refuses the ``.idx`` that ``wds2idx`` writes of them.

Source: ``wds2idx`` of DALI 2.4; GNU tar's manual, ``--quoting-style=escape``.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import IndexFormatError
from curation.index import ShardIndex
from curation.storage.base import Storage
from curation.tar_header import (
    BLOCK,
    SIZE,
    checksum_is_right,
    header_name,
    padded,
    parse_number,
)
from curation.tar_walk import text_of

_FIELDS = {"v1.1": "extension offset size", "v1.2": "extension offset size name"}
"""The versions that DALI reads."""

_LETTERS = dict(zip(b"\a\b\t\n\v\f\r\\", "abtnvfr\\", strict=True))
_TO_ESCAPE = (*range(ord(" ") + 1), ord("\\"), 0x7F)
_ESCAPES = {code: f"\\{_LETTERS.get(code, f'{code:03o}')}" for code in _TO_ESCAPE}
_CODES = {letter.encode(): bytes([code]) for code, letter in _LETTERS.items()}
_ESCAPED = re.compile(rb"\\([0-7]{3}|[abtnvfr\\])")


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What an ``.idx`` says of one component."""

    extension: str
    start: int
    """First byte of its data in the shard."""
    size: int
    """In bytes."""
    name: str
    """The member's name; empty in version 1.1, which has none."""


def format_index(index: ShardIndex) -> bytes:
    """Write an ``.idx``, byte for byte as ``wds2idx`` does wherever that is right.

    DALI knows a component whose extension has spaces or control characters by its
    escaped extension. It refuses the index of a shard without samples.
    """
    rows = index.components
    names, extensions = rows["name"], rows["extension"]
    if pc.any(pc.match_substring_regex(names, r"[\x00-\x20\\\x7f]")).as_py():
        names, extensions = _escaped(names), _escaped(extensions)
    last = np.zeros(len(rows), bool)
    last[index.sample_starts[1:] - 1] = True
    lines = pc.binary_join_element_wise(
        *(extensions, " "),
        *(rows["data_start"].cast(pa.string()), " "),
        *(rows["size"].cast(pa.string()), " "),
        *(names, pc.if_else(pa.array(last), "\n", " ")),
        "",
    )
    # the strings of an Arrow array lie one behind the other: together they are the text
    text = lines.combine_chunks().buffers()[2] if len(rows) else b""
    return b"v1.2 %d\n" % len(index) + bytes(text)


def parse_index(data: bytes, shard: str) -> list[tuple[IndexEntry, ...]]:
    """Read an ``.idx`` of version 1.1 or 1.2: for each sample, its components.

    Args:
        data: The whole file.
        shard: What errors shall name: the path of the index or of its tar.

    Raises:
        IndexFormatError: It does not parse.
    """
    first, *lines = data.decode(errors="backslashreplace").split("\n")
    version, _, count = first.strip().partition(" ")
    if version not in _FIELDS or not count.isdecimal():
        raise IndexFormatError(
            f"{shard}: the first line of the index is {first[:80]!r}; expected "
            "'v1.2 <samples>'",
            shard=shard,
        )
    lines = [line for line in lines if line.strip()]
    if len(lines) != int(count):
        raise IndexFormatError(
            f"{shard}: the index promises {count} samples and has {len(lines)}; make it "
            "again",
            shard=shard,
        )
    return [_entries(line, version, shard) for line in lines]


def count_extensions(data: bytes, shard: str) -> Counter[tuple[str, ...]]:
    """Count which extensions samples have together, without reading places and names.

    Args:
        data: A whole ``.idx`` of version 1.2, as :func:`format_index` writes it.
        shard: As for :func:`parse_index`.

    Raises:
        IndexFormatError: It is no such file, or not whole.
    """
    first, *lines = data.decode(errors="backslashreplace").removesuffix("\n").split("\n")
    if first != f"v1.2 {len(lines)}":
        raise IndexFormatError(
            f"{shard}: the first line of the index is {first[:80]!r}; expected 'v1.2 "
            f"{len(lines)}', for as many lines behind it",
            shard=shard,
        )
    width = len(_FIELDS["v1.2"].split())
    counts = Counter(tuple(line.split(" ")[::width]) for line in lines)
    return Counter({tuple(map(_unescaped, kind)): n for kind, n in counts.items()})


def check_index_fits(
    samples: Sequence[Sequence[IndexEntry]], storage: Storage, path: str
) -> None:
    """Make sure that an ``.idx`` belongs to a shard, before its offsets are trusted.

    DALI checks nothing of it: an old ``.idx`` gives it the wrong bytes, and one that
    reaches past the end of the tar a segmentation fault. Here all ranges must lie apart
    and inside the tar, and the headers before the first and the last must be theirs. A
    size that stands in a pax record alone is not looked up: such an index is refused.

    Raises:
        IndexFormatError: It does not fit; the message says where.
        NotFoundError: There is no such shard.
    """
    file_size = storage.stat(path).size
    entries = sorted((e for sample in samples for e in sample), key=lambda e: e.start)
    end = 0
    for entry in entries:
        if entry.start % BLOCK or entry.start < end + BLOCK:
            raise _misfit(path, entry, "no member's data can begin there")
        end = entry.start + padded(entry.size)
        if end > file_size:
            raise _misfit(path, entry, f"the tar ends at byte {file_size}")
    for entry in entries[:1] + entries[-1:]:
        header = storage.read(path, entry.start - BLOCK, entry.start)
        if not _is_header_of(entry, header):
            raise _misfit(path, entry, "the header before it is another one")


def find_difference(data: bytes, index: ShardIndex) -> str | None:
    """Compare an ``.idx`` that somebody else wrote with what the shard's headers say.

    What counts is where samples and their components lie: the version of the file, its
    white space, and the order of samples and of the components of one do not.

    Args:
        data: The whole file.
        index: Of the shard, from its own headers.

    Returns:
        What is wrong with the file; None if it can be used.
    """
    if data == format_index(index):
        return None
    try:
        given = parse_index(data, index.file.path)
    except IndexFormatError as error:
        return str(error)
    found = parse_index(format_index(index), index.file.path)
    if len(given) != len(found):
        return f"it lists {len(given)} samples, and the shard has {len(found)}"
    wrong = Counter(map(_places, given)) - Counter(map(_places, found))
    if not wrong:
        return None
    extension, start, size = min(wrong)[0]
    return (
        f"it has a sample whose {extension} has {size} bytes from byte {start}, and the "
        "shard has none with these components, or not as many"
    )


def _places(sample: Sequence[IndexEntry]) -> tuple[tuple[str, int, int], ...]:
    return tuple(sorted((e.extension, e.start, e.size) for e in sample))


def _escaped(names: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([[name.translate(_ESCAPES) for name in names.to_pylist()]])


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    # octal escapes may be the bytes of one character, and so are put together as bytes
    return text_of(_ESCAPED.sub(_unescaped_byte, text.encode()))


def _unescaped_byte(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return _CODES[code] if code in _CODES else bytes([int(code, 8) & 0xFF])


def _entries(line: str, version: str, shard: str) -> tuple[IndexEntry, ...]:
    # DALI separates at the white space of C, str.split() would also at Unicode's
    fields = re.split(r"[ \t\v\f\r]+", line.strip(" \t\v\f\r"))
    width = len(_FIELDS[version].split())
    groups = [fields[i : i + width] for i in range(0, len(fields), width)]
    if len(fields) % width or not all(map(_is_number, _numbers(groups))):
        raise IndexFormatError(
            f"{shard}: a line of the index begins with {line[:80]!r}; expected groups "
            f"of '{_FIELDS[version]}'",
            shard=shard,
        )
    return tuple(
        IndexEntry(_unescaped(extension), int(start), int(size), _unescaped("".join(name)))
        for extension, start, size, *name in groups
    )


def _numbers(groups: list[list[str]]) -> list[str]:
    return [number for group in groups for number in group[1:3]]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_header_of(entry: IndexEntry, header: bytes) -> bool:
    """Tell whether a header block can be the one before a component."""
    if len(header) < BLOCK or not checksum_is_right(header):
        return False
    name = text_of(header_name(header))
    # an extension header may say the name where it is long, not ASCII (bytes that are no
    # UTF-8 stand as \xff in the index), or not given
    plain = entry.name.isascii() and "\\" not in entry.name
    hidden = not entry.name or len(entry.name) > 100 or not plain
    return parse_number(header[SIZE]) == entry.size and (hidden or name == entry.name)


def _misfit(path: str, entry: IndexEntry, found: str) -> IndexFormatError:
    return IndexFormatError(
        f"{path}: its index has {entry.size} bytes of {entry.name or entry.extension} at "
        f"byte {entry.start}, but {found}; the index is another tar's: make it again",
        shard=path,
    )
