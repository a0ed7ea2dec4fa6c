"""A checksum of what Parquet has none of: a file's footer, and all of its bytes together.

Pages have a CRC-32 in Parquet; the headers before them have not, nor has the footer, which
says where they lie, how many rows there are, and what the table is made of. So some bytes
stand between the last page and the footer, where every reader finds its way around them,
as it does around indexes of pages: a mark, the CRC-32 of all before it, and that of all
behind it. Files that lack them are read as they are.
"""

import zlib
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

MARK = b"curation: CRC-32"
SEAL_BYTES = len(MARK) + 8
TAIL_BYTES = 64 << 10  # read at once: most footers are shorter
_END = 8  # bytes behind the footer: its length, and Parquet's own mark
_MAGIC = b"PAR1"
_SAME = 3  # bytes of a mark that may be damaged, for it to count as one


def sealed(data: memoryview) -> bytes:
    """Put the checksums into a whole Parquet file."""
    at = len(data) - _END - int.from_bytes(data[-_END:-4], "little")
    pages, footer = data[:at], data[at:]
    sums = (zlib.crc32(part).to_bytes(4, "little") for part in (pages, footer))
    return b"".join((pages, MARK, *sums, footer))


def read_metadata(file: BinaryIO) -> pq.FileMetaData:
    """Read the footer of a Parquet file, and compare its checksum if it has one.

    Raises:
        ValueError: It is damaged.
        pyarrow.ArrowException, OSError: It is no Parquet file.
    """
    found = _read_tail(file)
    if found is None:
        return pq.read_metadata(file)  # says what is wrong
    seal, footer = found
    if seal and zlib.crc32(footer) != int.from_bytes(seal[-4:], "little"):
        raise ValueError("its footer is damaged: it has another CRC-32 than on record")
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer))


def check_pages(file: BinaryIO) -> None:
    """Compare the checksum of all that is before the footer, if the file has one.

    Raises:
        ValueError: It is damaged.
    """
    found = _read_tail(file)
    if not found or not found[0]:
        return
    seal, footer = found
    left, crc = file.seek(0, 2) - len(footer) - SEAL_BYTES, 0
    file.seek(0)
    while left and (block := file.read(min(left, 1 << 20))):
        crc, left = zlib.crc32(block, crc), left - len(block)
    if seal[: len(MARK)] != MARK or crc != int.from_bytes(seal[-8:-4], "little"):
        raise ValueError("it is damaged: it has another CRC-32 than on record")


def _read_tail(file: BinaryIO) -> tuple[bytes, bytes] | None:
    """Give the seal, if there is one, and what is behind it; None of what is no Parquet."""
    size = file.seek(0, 2)
    file.seek(max(size - TAIL_BYTES, 0))
    tail = file.read()
    length = int.from_bytes(tail[-_END:-4], "little") + _END
    if len(tail) < _END or tail[-4:] != _MAGIC or length > size:
        return None
    if (wanted := min(length + SEAL_BYTES, size)) > len(tail):
        file.seek(size - wanted)
        tail = file.read()
    seal, footer = tail[-length - SEAL_BYTES : -length], tail[-length:]
    differ = sum(a != b for a, b in zip(seal, MARK, strict=False))
    return (seal if len(seal) == SEAL_BYTES and differ <= _SAME else b""), footer
