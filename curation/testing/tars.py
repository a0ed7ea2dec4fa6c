"""Tars of every kind, as Hypothesis strategies, and what ``tarfile`` finds in them.

Members are written by ``tarfile``, each in a format of its own, so that one tar mixes what
programs of fifty years wrote. ``tarfile`` reads them all, and so says what is right.
"""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import strategies as st

BLOCK = 512
ENDS = (bytes(2 * BLOCK), bytes(BLOCK), bytes(20 * BLOCK))
"""How archives end: as POSIX asks, as careless writers do, and filled up to a record."""

TarFormat = Literal[0, 1, 2]
FORMATS: tuple[TarFormat, ...] = (
    tarfile.USTAR_FORMAT,
    tarfile.GNU_FORMAT,
    tarfile.PAX_FORMAT,
)
_QUIRKS = ("none", "none", "base-256 size", "spaces for zeros", "v7", "size record")
_NO_FILES = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
_MOST_DATA = 3 * BLOCK
_EXTENSIONS = ("jpg", "JPG", "png", "txt", "json", "seg.png", "a b", "ü", "x" * 120)


@dataclass(frozen=True)
class TarMember:
    """One member, and how its header is written."""

    name: str
    data: bytes = field(default=b"", repr=False)
    kind: bytes = tarfile.REGTYPE
    format: TarFormat = tarfile.USTAR_FORMAT
    quirk: str = "none"
    """``base-256 size``, ``spaces for zeros`` before and after the size, ``v7``, or (for
    ``PAX_FORMAT``) ``size record``, which leaves the field of the header at zero."""
    records: Mapping[str, str] = field(default_factory=dict)
    """Pax records beside those that the name needs; for ``PAX_FORMAT`` only."""
    global_records: Mapping[str, str] = field(default_factory=dict)
    """Pax records for all members from here on, written before this one."""

    def to_bytes(self) -> bytes:
        """Write the member: headers, data, padding."""
        info = tarfile.TarInfo(self.name)
        info.type, info.size, info.pax_headers = self.kind, len(self.data), self.records
        if self.quirk == "size record":
            info.pax_headers = {**self.records, "size": str(len(self.data))}
        if self.kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info.linkname = "elsewhere"
        headers = info.tobuf(self.format, "utf-8", "surrogateescape")
        own = _with_quirk(headers[-BLOCK:], self.quirk, len(self.data))
        return headers[:-BLOCK] + own + self.data + bytes(-len(self.data) % BLOCK)


@dataclass(frozen=True)
class MadeTar:
    """Members and how their archive ends."""

    members: tuple[TarMember, ...]
    end: bytes = field(default=ENDS[0], repr=False)

    def to_bytes(self) -> bytes:
        """Write the whole tar."""
        parts = []
        for member in self.members:
            if member.global_records:
                parts.append(global_header(member.global_records))
            parts.append(member.to_bytes())
        return b"".join(parts) + self.end


def write_tar(members: Iterable[TarMember]) -> bytes:
    """Write a whole tar."""
    return MadeTar(tuple(members)).to_bytes()


def list_tar(tar: bytes) -> list[tarfile.TarInfo]:
    """List the members as ``tarfile`` finds them."""
    with open_tar(tar) as opened:
        return opened.getmembers()


def open_tar(tar: bytes) -> tarfile.TarFile:
    """Open a tar in memory with ``tarfile``; no compression is guessed."""
    return tarfile.open(fileobj=io.BytesIO(tar), mode="r:", encoding="utf-8")


def shown_name(info: tarfile.TarInfo) -> str:
    r"""Give a name as this package writes it: bytes that are no UTF-8 as ``\xff``."""
    return info.name.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")


def sealed(header: bytes) -> bytes:
    """Put the right checksum into a header block."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def global_header(records: Mapping[str, str]) -> bytes:
    """Write a pax header that applies to all members after it."""
    return tarfile.TarInfo.create_pax_global_header(dict(records))


def pax_record(keyword: str, value: str) -> bytes:
    """Write one pax record, with its own length before it."""
    rest = f" {keyword}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) > length:
        length += 1
    return str(length).encode() + rest


def contents(most: int = _MOST_DATA) -> st.SearchStrategy[bytes]:
    """Give data of members: empty, short, of whole blocks, and what looks like a header."""
    lookalike = TarMember("inner.jpg", b"x").to_bytes()
    return st.one_of(
        st.sampled_from([b"", bytes(BLOCK), b"b" * BLOCK, lookalike]),
        st.binary(max_size=most),
    )


def names() -> st.SearchStrategy[str]:
    """Give names of members: in folders, hidden, odd, and too long for a header."""
    return st.builds("".join, st.tuples(_folders(), _stems(), _suffixes()))


@st.composite
def members(draw: st.DrawFn, name: st.SearchStrategy[str] | None = None) -> TarMember:
    """Give files that carry data, in any format that can hold their names."""
    drawn = draw(names() if name is None else name)
    data = draw(contents())
    kind = draw(st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.CONTTYPE]))
    form = draw(_formats(drawn, FORMATS))
    records = draw(_records()) if form == tarfile.PAX_FORMAT else {}
    quirk = draw(st.sampled_from(_QUIRKS))
    if quirk == "size record" and form != tarfile.PAX_FORMAT:
        quirk = "none"
    if quirk == "v7" and (
        kind == tarfile.CONTTYPE or len(drawn.encode(errors="replace")) > 99
    ):
        quirk = "none"  # such a header has no type and no prefix
    return TarMember(drawn, data, kind, form, quirk, records)


@st.composite
def tars(draw: st.DrawFn) -> MadeTar:
    """Give tars of anything: files, directories, links, global headers, in any order."""
    folder = _folders().filter(bool).filter(_fits_ustar)
    other = names().filter(_fits_ustar)
    member = st.one_of(
        members(),
        members(),
        st.builds(TarMember, folder, kind=st.just(tarfile.DIRTYPE)),
        st.builds(TarMember, other, kind=st.sampled_from(_NO_FILES)),
        st.builds(replace, members(), global_records=st.just({"comment": "of all"})),
    )
    made = draw(st.lists(member, max_size=10))
    return MadeTar(tuple(made), draw(st.sampled_from(ENDS)))


@st.composite
def sample_members(
    draw: st.DrawFn, *, adjacent: bool = True, formats: Sequence[TarFormat] = FORMATS
) -> list[TarMember]:
    """Give the members of a proper shard: unique keys, lower-case unique extensions.

    Args:
        draw: Given by Hypothesis.
        adjacent: The members of a sample lie side by side.
        formats: Of headers; pax where a name fits into none of them.
    """
    keys = draw(st.lists(_keys(), max_size=5, unique=True))
    extension = st.sampled_from(["jpg", "png", "txt", "json", "seg.png"])
    extensions = st.lists(extension, min_size=1, max_size=3, unique=True)
    made = [
        draw(
            st.builds(TarMember, st.just(name), contents(), format=_formats(name, formats))
        )
        for key in keys
        for name in map(f"{key}.{{}}".format, draw(extensions))
    ]
    return made if adjacent else draw(st.permutations(made))


def _formats(name: str, formats: Sequence[TarFormat]) -> st.SearchStrategy[TarFormat]:
    """Give formats that can hold a name."""
    if _fits_ustar(name):
        return st.sampled_from(formats)
    longer = [form for form in formats if form != tarfile.USTAR_FORMAT]
    return st.sampled_from(longer or [tarfile.PAX_FORMAT])


def _keys() -> st.SearchStrategy[str]:
    stem = st.text("ab01_-", min_size=1, max_size=6)
    long = st.integers(101, 180).map(lambda length: "k" * length)
    folder = st.sampled_from(["", "./", "a/", "x/y/", "with.dot/", "f" * 90 + "/"])
    return st.builds("".join, st.tuples(folder, st.one_of(stem, stem, stem, long)))


def _folders() -> st.SearchStrategy[str]:
    part = st.sampled_from(
        ["a/", "b.c/", "./", "ü/", ".h/", "d" * 99 + "/", "e" * 80 + "/"]
    )
    return st.lists(part, max_size=3).map("".join)


def _stems() -> st.SearchStrategy[str]:
    odd = st.text(st.sampled_from("ab .\\\n\t\x7fü🦆\udcff"), min_size=1, max_size=5)
    return st.one_of(odd, st.text("ab01", min_size=1, max_size=3), st.just("s" * 101))


def _suffixes() -> st.SearchStrategy[str]:
    return st.one_of(st.just(""), st.sampled_from(_EXTENSIONS).map(".{}".format))


def _records() -> st.SearchStrategy[dict[str, str]]:
    keyword = st.sampled_from(["mtime", "comment", "LIBARCHIVE.x", "SCHILY.dev"])
    value = st.sampled_from(["1.5", "1700000000.123", "=", "ü\n", "z" * 600])
    time = st.floats(0, 2e9).map(lambda seconds: {"mtime": str(seconds)})
    return st.one_of(st.just({}), time, st.dictionaries(keyword, value, max_size=3))


def _fits_ustar(name: str) -> bool:
    try:
        tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    except ValueError:
        return False
    return True


def _with_quirk(header: bytes, quirk: str, size: int) -> bytes:
    if quirk in ("none", "size record"):
        return header
    if quirk == "base-256 size":
        field_bytes = b"\x80" + size.to_bytes(11, "big")
    else:
        field_bytes = (b"%o " % size).rjust(12)
    header = header[:124] + field_bytes + header[136:]
    if quirk == "v7":
        header = header[:156] + b"\0" + header[157:257] + bytes(BLOCK - 257)
    return sealed(header)
