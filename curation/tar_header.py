"""The headers of one tar member, both ways: from bytes to values and back.

Belongs here: what ustar, v7, GNU and pax put before a member's data. Where members lie in
a file belongs in ``tar.py``.

Source: POSIX.1-2001 ``pax`` and ustar; GNU tar's manual, "Basic Tar Format"; the bytes of
written headers are those of Python's ``tarfile``.
"""

from typing import NamedTuple

from curation.errors import InputError

BLOCK = 512  # bytes; headers, data and padding are whole blocks
ZERO_BLOCK = bytes(BLOCK)
OCTAL_DIGITS = b"01234567"
SIZE, CHECKSUM = slice(124, 136), slice(148, 156)  # fields of a header
PLAIN_SIZE_LIMIT = 8**11  # bytes; eleven octal digits hold less
METADATA_LIMIT = 64 << 20
"""Bytes of long names and pax records that one member may have. GNU tar and ``tarfile``
take any number; this one bounds the memory that a stranger's header can ask for."""

FILE, CONTIGUOUS, DIRECTORY, SPARSE, PAX, GLOBAL = b"075Sxg"
_V7_FILE = 0
_WITHOUT_DATA = frozenset(b"123456")  # links, devices, directories, pipes: any size is moot
_PAX = frozenset(b"xX")  # Solaris wrote X
_LONG_NAME, _LONG_LINK = b"LK"
_EXTENSIONS = _PAX | {_LONG_NAME, _LONG_LINK, GLOBAL}
_SPARSE_RECORDS = b"GNU.sparse."
_OF_LONG_NAME, _WRONG = b"L", b"x"  # beside the keywords of pax, which are longer

Records = dict[bytes, bytes]
"""Pax records that bear on names or bytes."""


class MemberHeaders(NamedTuple):
    """What the headers of one member say together. Positions are bytes of the window."""

    blocks: list[int]
    """Where each header block that has a checksum lies; the last is the member's own."""
    data_start: int
    size: int
    """Bytes of data in the tar, without padding."""
    kind: int
    """The type flag as its ASCII code. A contiguous or v7 file counts as ``0``, whatever
    is sparse as ``S``, a v7 directory as ``5``, a file whose pax header is wrong as ``x``,
    and one that a global header gives its name or size as ``g``."""
    name: bytes | None
    """What an extension header calls it; None if its own header has the name."""
    global_headers: list[tuple[int, int]]
    """Where pax headers for all members lie that stand between this one's."""


def padded(size: int) -> int:
    """Round a size up to whole blocks."""
    return size + -size % BLOCK


def parse_headers(
    window: bytes, at: int, shared: Records | None = None
) -> MemberHeaders | None:
    """Read all headers of the member that begins at byte ``at`` of ``window``.

    Where several name a member, a pax record counts more than a GNU long name, and the
    last one of a kind most: GNU tar's rule, and of what POSIX allows at all, its own.
    Checksums are left to the caller, who checks many at once.

    Args:
        window: Bytes of the tar.
        at: Where in them.
        shared: What global headers before the member say.

    Returns:
        None if the window ends before the member's data begins.

    Raises:
        ValueError: They are no headers of one member; the message says why.
    """
    records: Records = {}
    blocks: list[int] = []
    global_headers: list[tuple[int, int]] = []
    position = at
    while position + BLOCK <= len(window):
        blocks.append(position)
        kind = window[position + 156]
        if kind not in _EXTENSIONS:
            return _member(window, blocks, records, shared or {}, global_headers)
        size = parse_number(window[position + SIZE.start : position + SIZE.stop])
        start = position + BLOCK
        position = start + padded(size)
        if position - at > METADATA_LIMIT:
            raise ValueError(
                f"its extension headers claim more than {METADATA_LIMIT} bytes"
            )
        if position <= len(window) and kind == GLOBAL:
            global_headers.append((blocks[-1], position))
            if _content_records(window[start : start + size]):
                raise ValueError(
                    "a global pax header inside its own gives it a name or size"
                )
        elif position <= len(window):
            _add_records(records, kind, window[start : start + size])
    return None


def parse_global_header(window: bytes, at: int) -> tuple[int, Records] | None:
    """Read a pax header that applies to all members after it.

    Returns:
        Where it ends, and what it says of names and bytes; None if the window ends before.

    Raises:
        ValueError: It does not parse.
    """
    size = parse_number(window[at + SIZE.start : at + SIZE.stop])
    start = at + BLOCK
    end = start + padded(size)
    if end - at > METADATA_LIMIT:
        raise ValueError(f"its pax header claims more than {METADATA_LIMIT} bytes")
    if end > len(window):
        return None
    return end, _content_records(window[start : start + size])


def parse_number(field: bytes) -> int:
    """Read a numeric field: octal digits, or binary if its first bit is set.

    Raises:
        ValueError: It holds neither, or a negative number.
    """
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise ValueError("its size is negative")
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(OCTAL_DIGITS):
        raise ValueError(f"its size field holds {field!r}")
    return int(digits or b"0", 8)


def parse_pax_records(body: bytes) -> dict[bytes, bytes]:
    r"""Read pax records, ``<length> <keyword>=<value>\n`` each.

    Of a keyword that comes several times the last counts, as POSIX says.

    Raises:
        ValueError: A length does not fit its record.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(body) and body[at]:  # some writers pad with zeros
        space = body.find(b" ", at)
        digits = body[at:space]
        end = at + int(digits) if digits.isdigit() else 0
        keyword, equals, value = body[space + 1 : end].partition(b"=")
        if not equals or value[-1:] != b"\n" or end > len(body):
            raise ValueError(f"its pax header is wrong at {body[at : at + 20]!r}")
        records[keyword] = value[:-1]
        at = end
    return records


def header_name(header: bytes) -> bytes:
    """Give the name that one header block holds, with its ustar prefix."""
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    # only POSIX's magic promises a prefix: GNU's own format has times there
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def checksum_is_right(header: bytes) -> bool:
    """Tell whether a header block's checksum is that of its bytes, signed or not."""
    field = header[CHECKSUM]
    digits = field.strip(b" \0")
    if not digits or digits.strip(OCTAL_DIGITS):
        return False
    # the field itself counts as eight spaces; some old writers summed signed bytes
    total = sum(header) - sum(field) + 8 * ord(" ")
    signed = total - 256 * sum(byte > 127 for byte in header)
    return int(digits, 8) in (total, signed)


def format_header(name: str, size: int) -> bytes:
    """Write the headers of a file: one ustar block, after a pax header if ustar can't.

    All else is fixed (mode 0644, owner 0, time 0), so that the same members give the same
    tar. Names outside ASCII go into ustar as UTF-8: the readers tested take them, while
    DALI shows pax names as question marks.

    Args:
        name: Of any length.
        size: Bytes of data that will follow, at least 0.

    Raises:
        InputError: The name is empty or holds a NUL, or the size is negative.
    """
    if not name or "\0" in name or size < 0:
        raise InputError(f"no member of a tar can have the name {name!r} and {size} bytes")
    prefix, base = _split_name(name.encode())
    records = b""
    if not base:
        records += _pax_record(b"path", name.encode())
        base = name.encode("ascii", "replace")
    if size >= PLAIN_SIZE_LIMIT:
        records += _pax_record(b"size", b"%d" % size)
        size = 0
    own = _ustar_block(base, size, b"0", prefix=prefix, mode=0o644)
    if not records:
        return own
    extension = _ustar_block(b"././@PaxHeader", len(records), b"x")
    return extension + records.ljust(padded(len(records)), b"\0") + own


def _add_records(records: Records, kind: int, body: bytes) -> None:
    """Add what one extension header says of the name, the size, or sparseness."""
    if kind == _LONG_NAME:
        records[_OF_LONG_NAME] = body.split(b"\0", 1)[0]
    if kind not in _PAX:
        return
    try:
        found = _content_records(body)
    except ValueError:
        found = {_WRONG: b""}
    size = found.get(b"size")
    # readers differ in which of two sizes counts, and so would see different members
    if size is not None and records.get(b"size", size) != size:
        raise ValueError("two of its extension headers give different sizes")
    records.update(found)


def _content_records(body: bytes) -> Records:
    """Read the pax records that bear on a member's name or bytes.

    Raises:
        ValueError: As :func:`parse_pax_records`; or a size is no number.
    """
    found = {
        keyword: value
        for keyword, value in parse_pax_records(body).items()
        if keyword in (b"path", b"size") or keyword.startswith(_SPARSE_RECORDS)
    }
    if (size := found.get(b"size")) is not None:
        if not size.isdigit():
            raise ValueError(f"its pax header says that its size is {size[:20]!r}")
        found[b"size"] = b"%d" % int(size)  # so that equal ones look alike
    return found


def _member(
    window: bytes,
    blocks: list[int],
    own: Records,
    shared: Records,
    global_headers: list[tuple[int, int]],
) -> MemberHeaders | None:
    """Put together a member's own header, the last of ``blocks``, and the records."""
    position = blocks[-1]
    header = window[position : position + BLOCK]
    records = shared | own
    kind = _kind(header, records)
    size = int(own[b"size"]) if b"size" in own else parse_number(header[SIZE])
    data_start: int | None = position + BLOCK
    if header[156] == SPARSE:
        data_start = _after_sparse_map(window, position)
    if data_start is None:
        return None
    if kind == FILE and _WRONG in own:
        if not size:  # the record that can't be read may have said it
            raise ValueError("its pax header is wrong, and its size is nowhere else")
        kind = PAX
    elif kind == FILE and shared.keys() - own.keys():
        kind = GLOBAL
    name = records.get(b"GNU.sparse.name") or records.get(b"path")
    return MemberHeaders(
        blocks,
        data_start,
        0 if kind in _WITHOUT_DATA else size,
        kind,
        name or records.get(_OF_LONG_NAME) or None,
        global_headers,
    )


def _kind(header: bytes, records: Records) -> int:
    if any(keyword.startswith(_SPARSE_RECORDS) for keyword in records):
        return SPARSE
    if header[156] == _V7_FILE:
        return DIRECTORY if header_name(header).endswith(b"/") else FILE
    return FILE if header[156] == CONTIGUOUS else header[156]


def _after_sparse_map(window: bytes, position: int) -> int | None:
    """Skip the blocks that continue the map of holes in a GNU sparse header."""
    more = window[position + 482]
    position += BLOCK
    while more:
        if position + BLOCK > len(window):
            return None
        more = window[position + 504]
        position += BLOCK
    return position


def _split_name(name: bytes) -> tuple[bytes, bytes]:
    """Split a name into ustar's prefix and name; two empty ones if it doesn't fit."""
    if len(name) <= 100:
        return b"", name
    for slash in (at for at, byte in enumerate(name[:156]) if byte == ord("/")):
        if slash and len(name) - slash - 1 <= 100:
            return name[:slash], name[slash + 1 :]
    return b"", b""


def _pax_record(keyword: bytes, value: bytes) -> bytes:
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) > length:
        length += 1
    return b"%d" % length + rest


def _ustar_block(
    name: bytes, size: int, kind: bytes, *, prefix: bytes = b"", mode: int = 0
) -> bytes:
    name = name[:100]
    numbers = b"%07o\0" % mode + _OWNERS + b"%011o\0" % size + _TIME
    # zeros add nothing, and most of a block is zeros; the checksum itself counts as spaces
    total = sum(name) + sum(numbers) + 8 * ord(" ") + sum(kind) + _MAGIC_SUM + sum(prefix)
    return b"%s%s%06o\0 %s%s%s%s%s" % (
        name.ljust(100, b"\0"),
        numbers,
        total,
        kind,
        bytes(100),  # the name of what a link points to
        _MAGIC,
        bytes(80),  # the names of the owners, devices
        prefix.ljust(167, b"\0"),
    )


_OWNERS = b"0000000\0" * 2
_TIME = b"00000000000\0"
_MAGIC = b"ustar\0" + b"00"
_MAGIC_SUM = sum(_MAGIC)
