"""Whether a JPEG is put together as its format asks for, by its markers alone.

Decoders differ in what they forgive. libjpeg, by its own defaults, fills with gray what it
can't read; Pillow's use of it refuses such a file, and a GPU's decoder does something else
again. All of them agree on a file whose markers are in order, so that is the question here:
every segment of the header is whole and possible, what is between the markers of a scan is
nothing but coded data and restarts in their order, and there is an end. What is not so is
left to Pillow, whose verdict is the rule (:mod:`curation.image_decoding`).

No code is decoded. A wrong bit that leaves the markers alone is not noticed: Pillow, and
every reader that stands on libjpeg, takes it too.

Source: ITU-T T.81 (1992), annex B; libjpeg-turbo 3.1, ``jdmarker.c``, ``jdphuff.c`` and
``jdhuff.c``, for what makes it give up.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

import numpy as np

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = (_BASELINE, _EXTENDED, _PROGRESSIVE)
_SEQUENTIAL = (_BASELINE, _EXTENDED, 0xC9)  # the last is arithmetic coded
_ANY_FRAME = {*range(0xC0, 0xD0)} - {_DHT, 0xC8, 0xCC}
_APP0, _APP1, _APP14, _APP15 = 0xE0, 0xE1, 0xEE, 0xEF
_RST0, _RST7 = 0xD0, 0xD7

_BLOCK_BYTES = 1 << 20  # looked through at once: most files; a hostile one is all markers
_MAX_SIDE = 65_500  # JPEG_MAX_DIMENSION of libjpeg
_HARMLESS = (b"ICC_PROFILE\0", b"http://ns.adobe.com/", b"Ducky")
"""Metadata that Pillow keeps without looking into it, and that photographs often have."""
USUAL_SCANS = 16
"""Of a JPEG of any size; encoders write 1, progressive ones 10 to 13."""
MOST_SCANS = 500  # where libjpeg-turbo's own fuzzer stops, too
MOST_SCANNED = 1 << 31
"""Pixels times scans, if there are more than the usual scans: 1 to 25 s on a core."""
_NO_CODE = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker that is no restart, as libjpeg looks for the next one."""
_ALONE = (0x01, _SOI)  # markers without a length
_AFTER_FF = re.compile(rb"\xff[^\xff]", re.DOTALL)
_WITHOUT_LENGTH = {0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}  # as Pillow has it
_WITH_LENGTH = {*range(0xC0, 0xF0), _COM} - _WITHOUT_LENGTH - {_SOS}
MOST_STEPS = 100_000
"""Markers, and bytes between them, before the first scan: a tenth of a second."""
_MAX_BLOCKS = 10  # of an interleaved MCU; T.81, B.2.3
_MAX_SHIFT = 13  # of successive approximation, G.1.1.1.2
_YCC = 1  # Adobe's marker: the three components are Y, Cb and Cr


class _OddError(Exception):
    """Something that not all decoders take alike."""


@dataclass(frozen=True, slots=True)
class PlainJpeg:
    """A JPEG that every decoder takes, and takes alike."""

    width: int
    height: int
    is_looked_into: bool
    """Whether it has segments that Pillow looks into when it opens it, and may dislike."""


def read_plain_jpeg(data: bytes) -> PlainJpeg | None:
    """Look through a JPEG's markers.

    Plain is: 8 bits, gray or YCbCr, baseline or progressive, Huffman coded, whole. What
    follows the end does not count.

    Returns:
        None if it is not plain, or no JPEG.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        return _Walk(data).to_the_end()
    except (_OddError, IndexError):  # IndexError: it ends within a segment
        return None


def has_endless_scans(data: bytes, width: int, height: int) -> bool:
    """Tell whether a JPEG has so many scans that decoding it would take minutes.

    A scan of a few bytes has a decoder go over the whole image. Looks for markers as
    libjpeg does, whatever else the file is.

    Args:
        data: The file.
        width: Of the image, in pixels.
        height: Likewise.
    """
    # counting bytes takes longer than looking at the header, which tells of most images
    if _ends_with_its_first_scan(data) or data.count(b"\xff\xda") <= USUAL_SCANS:
        return False
    return _are_endless(_count_scans(data), width, height)


def has_endless_header(data: bytes) -> bool:
    """Tell whether a JPEG has so much before its first scan that Pillow takes long.

    Pillow goes over padding and junk byte by byte, in Python: half a second per megabyte.

    Source: Pillow 12, ``JpegImagePlugin.py``.
    """
    steps, at = 0, 2
    while steps <= MOST_STEPS:
        found = _AFTER_FF.search(data, at)
        if found is None:
            return steps + len(data) - at > MOST_STEPS
        steps += found.end() - at
        marker, at = data[found.end() - 1], found.end()
        if marker in _WITH_LENGTH:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
        elif marker == _SOS or (marker and marker not in _WITHOUT_LENGTH):
            break  # which Pillow takes for no marker
    return steps > MOST_STEPS


def _ends_with_its_first_scan(data: bytes) -> bool:
    """Tell whether decoders stop after one scan: sequential, and of all components."""
    components, at = b"", 2
    while found := _NO_CODE.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == _SOS:
            return components != b"" and data[at + 2 : at + 3] == components
        if marker in _ANY_FRAME:
            if components or marker not in _SEQUENTIAL:
                return False
            components = data[at + 7 : at + 8]
        if marker not in _ALONE:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    return False


def _are_endless(scans: int, width: int, height: int) -> bool:
    if scans <= USUAL_SCANS:
        return False
    return scans > MOST_SCANS or scans * width * height > MOST_SCANNED


def _count_scans(data: bytes) -> int:
    """Count up to the end of the image, or to one more than the most."""
    scans, at = 0, 2
    while scans <= MOST_SCANS and (found := _NO_CODE.search(data, at)):
        marker, at = data[found.start() + 1], found.end()
        if marker == _EOI:
            break
        if marker not in _ALONE:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
        scans += marker == _SOS
    return scans


@dataclass(slots=True)
class _Walk:
    """What is known of a JPEG up to some marker."""

    data: bytes
    block: tuple[int, bytes] = (-1, b"")
    """Number of the block that was looked at last, and 1 where it has a marker."""
    tables: set[int] = field(default_factory=set)
    """Of Huffman codes: class * 16 + destination."""
    quantizers: set[int] = field(default_factory=set)
    components: dict[int, tuple[tuple[int, int], int]] = field(default_factory=dict)
    """Id to samples across and down, and the quantization table."""
    size: tuple[int, int] | None = None
    progressive: bool = False
    restarts: bool = False
    scanned: set[int] = field(default_factory=set)
    """Components that a scan was of."""
    scans: int = 0
    jfif: bool = False
    adobe: int | None = None
    has_dpi: bool = False
    has_exif: bool = False
    has_metadata: bool = False
    """Other than EXIF and the harmless kinds."""

    def to_the_end(self) -> PlainJpeg:
        at = 2
        while (marker := self._marker(at)) != _EOI:
            start, end = at + 4, at + 2 + self._number(at + 2)
            if end < start or end > len(self.data):
                raise _OddError
            self._read(marker, start, end)
            at = self._after_scan(end) if marker == _SOS else end
        if self.size is None or len(self.scanned) < len(self.components):
            raise _OddError
        if _are_endless(self.scans, *self.size):
            raise _OddError
        # what EXIF holds is read for its dots per inch, where nothing else has those
        looked_into = self.has_metadata or (self.has_exif and not self.has_dpi)
        return PlainJpeg(*self.size, looked_into)

    def _marker(self, at: int) -> int:
        if self.data[at] != 0xFF:
            raise _OddError
        return self.data[at + 1]

    def _number(self, at: int) -> int:
        return self.data[at] << 8 | self.data[at + 1]

    def _read(self, marker: int, start: int, end: int) -> None:
        if _APP0 <= marker <= _APP15:
            self._application(marker, start, end)
        elif marker == _DQT:
            self._quantization(start, end)
        elif marker == _DHT:
            self._huffman(start, end)
        elif marker in _FRAMES:
            self._frame(marker, start, end)
        elif marker == _SOS:
            self._scan(start, end)
        elif marker == _DRI and end - start == 2:
            self.restarts = self._number(start) > 0
        elif marker != _COM:
            raise _OddError

    def _application(self, marker: int, start: int, end: int) -> None:
        is_whole, begins = end - start >= 14, self.data.startswith
        if is_whole and marker == _APP0 and begins(b"JFIF\0", start):
            self.jfif = True
            self.has_dpi |= self.data[start + 7] in (1, 2)
        elif end - start >= 12 and marker == _APP14 and begins(b"Adobe", start):
            self.adobe = self.data[start + 11]
        elif marker == _APP1 and begins(b"Exif\0\0", start):
            self.has_exif = True
        elif not (is_whole and begins(_HARMLESS, start)):
            self.has_metadata = True

    def _quantization(self, start: int, end: int) -> None:
        while start < end:
            precision, number = divmod(self.data[start], 16)
            if precision > 1 or number > 3:
                raise _OddError
            self.quantizers.add(number)
            start += 1 + 64 * (1 + precision)
        if start != end:
            raise _OddError

    def _huffman(self, start: int, end: int) -> None:
        while start < end:
            kind, number = divmod(self.data[start], 16)
            counts = self.data[start + 1 : start + 17]
            if kind > 1 or number > 3 or not _are_code_lengths(counts):
                raise _OddError
            first, start = start + 17, start + 17 + sum(counts)
            # a code for a DC difference is its number of bits
            if kind == 0 and any(bits > 15 for bits in self.data[first:start]):
                raise _OddError
            self.tables.add(kind * 16 + number)
        if start != end:
            raise _OddError

    def _frame(self, marker: int, start: int, end: int) -> None:
        precision, count = self.data[start], self.data[start + 5]
        height, width = self._number(start + 1), self._number(start + 3)
        whole = end - start == 6 + 3 * count
        if self.size or precision != 8 or count not in (1, 3) or not whole:
            raise _OddError
        if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
            raise _OddError
        for at in range(start + 6, end, 3):
            across, down = divmod(self.data[at + 1], 16)
            self.components[self.data[at]] = (across, down), self.data[at + 2]
        if len(self.components) != count:
            raise _OddError
        self.size = width, height
        self.progressive = marker == _PROGRESSIVE
        self._check_sampling()
        self._check_colours()

    def _check_sampling(self) -> None:
        """Leave to Pillow what is not sampled at a whole fraction of the pixels."""
        for samples in zip(*(one[0] for one in self.components.values()), strict=True):
            most = max(samples)
            if most > 4 or not all(number and most % number == 0 for number in samples):
                raise _OddError

    def _check_colours(self) -> None:
        """Leave to Pillow what is not certainly Y, Cb and Cr; gray is gray."""
        if len(self.components) == 1 or self.adobe == _YCC:
            return
        ids = tuple(self.components)
        if self.adobe is not None or not (self.jfif or ids == (1, 2, 3)):
            raise _OddError

    def _scan(self, start: int, end: int) -> None:
        count = self.data[start]
        if not 1 <= count <= 3 or end - start != 4 + 2 * count:
            raise _OddError
        chosen = [self.data[start + 1 + 2 * i] for i in range(count)]
        if len(set(chosen)) != count or not self.components.keys() >= set(chosen):
            raise _OddError
        blocks = sum(prod(self.components[one][0]) for one in chosen)
        if count > 1 and blocks > _MAX_BLOCKS:
            raise _OddError
        if not self.quantizers >= {self.components[one][1] for one in chosen}:
            raise _OddError
        first, last = self.data[end - 3], self.data[end - 2]
        high, low = divmod(self.data[end - 1], 16)
        if self.progressive:
            _check_progression(count, first, last, high, low)
        elif (first, last, high, low) != (0, 63, 0, 0) or self.scanned & set(chosen):
            raise _OddError
        for i in range(count):
            self._check_tables(self.data[start + 2 + 2 * i], first, last, high)
        self.scanned.update(chosen)
        self.scans += 1

    def _check_tables(self, tables: int, first: int, last: int, high: int) -> None:
        """See that the codes are there which a component's scan needs."""
        dc, ac = divmod(tables, 16)
        if first == 0 and high == 0 and dc not in self.tables:
            raise _OddError
        if last > 0 and 16 + ac not in self.tables:
            raise _OddError

    def _after_scan(self, at: int) -> int:
        """Go over coded data that starts at ``at``, to the marker that ends it."""
        restart = 0
        at = self._next_marker(at)
        while _RST0 <= self.data[at + 1] <= _RST7:
            if not self.restarts or self.data[at + 1] - _RST0 != restart % 8:
                raise _OddError
            restart += 1
            at = self._next_marker(at + 2)
        return at

    def _next_marker(self, at: int) -> int:
        """Find the next byte 0xFF that no 0 follows."""
        for number in range(at // _BLOCK_BYTES, len(self.data) // _BLOCK_BYTES + 1):
            if self.block[0] != number:
                self.block = number, _markers(self.data, number * _BLOCK_BYTES)
            start = number * _BLOCK_BYTES
            place = self.block[1].find(1, max(at - start, 0))
            if place >= 0:
                return start + place
        raise _OddError


def _markers(data: bytes, start: int) -> bytes:
    """Put 1 where 0xFF is not followed by 0, in the block that begins at ``start``."""
    length = min(_BLOCK_BYTES, len(data) - start - 1)
    if length < 1:
        return b""
    values = np.frombuffer(data, np.uint8, length + 1, start)
    # four times as fast as to ask for the places of the many 0xFF first
    found: bytes = ((values[:-1] == 0xFF) & (values[1:] != 0)).tobytes()
    return found


@lru_cache(maxsize=1024)
def _are_code_lengths(counts: bytes) -> bool:
    """Tell whether so many codes of 1, 2 … 16 bits can be; none may be all ones."""
    code = 0
    for length, count in enumerate(counts, 1):
        code = code * 2 + count
        if count and code >= 1 << length:
            return False
    return len(counts) == 16 and sum(counts) <= 256


def _check_progression(count: int, first: int, last: int, high: int, low: int) -> None:
    alone = first == 0 and last == 0
    band = 0 < first <= last <= 63 and count == 1
    if not (alone or band) or low > _MAX_SHIFT or (high and low != high - 1):
        raise _OddError
