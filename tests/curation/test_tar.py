"""Every member of every kind of tar is found where ``tarfile`` finds it, or damage is."""

import gzip
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import MOST_REASON, NotFoundError, ShardError, StaleError
from curation.storage import LocalStorage, MemoryStorage, S3Storage
from curation.storage.base import check_unchanged
from curation.tar import Members, read_members
from curation.tar_header import FILE
from curation.testing import tars
from curation.testing.tars import BLOCK, MadeTar, TarMember, write_tar

WITHOUT_DATA = tuple(b"%d" % kind for kind in range(1, 7))
CHECKSUM_ENDS = (154, 155)
"""Bytes of a header that follow the digits of its checksum: any will do."""

Row = tuple[str, str, int, int, int]
SPARSE_FORMATS = {
    "gnu": ["--format=gnu"],
    "pax 0.0": ["--format=pax", "--sparse-version=0.0"],
    "pax 0.1": ["--format=pax", "--sparse-version=0.1"],
    "pax 1.0": ["--format=pax", "--sparse-version=1.0"],
}


def stored(tar: bytes) -> MemoryStorage:
    storage = MemoryStorage()
    storage.write("a.tar", tar)
    return storage


def rows(members: Members) -> list[Row]:
    """Kind, name, and where headers begin, data begin, and data end."""
    data_stops = members.data_starts + members.sizes
    columns = members.header_starts, members.data_starts, data_stops
    kinds = map(chr, members.kinds.tolist())
    places = (column.tolist() for column in columns)
    found = zip(kinds, members.names.to_pylist(), *places, strict=True)
    return [(kind, bare(name, kind), *places) for kind, name, *places in found]


def expected_rows(tar: bytes) -> list[Row]:
    found = []
    for info in tars.list_tar(tar):
        kind = "0" if info.isreg() else info.type.decode()
        name = bare(tars.shown_name(info), kind)
        start = info.offset_data
        stop = start if info.type in WITHOUT_DATA else start + info.size
        found.append((kind, name, info.offset, start, stop))
    return found


def bare(name: str, kind: str) -> str:
    """``tarfile`` takes the slash at the end of a directory's name away."""
    return name.rstrip("/") if kind == "5" else name


def whole_places(members: Members) -> list[tuple[int, int]]:
    ranges = zip(members.header_starts.tolist(), members.ends.tolist(), strict=True)
    return sorted([*ranges, *members.global_headers])


@given(tars.tars())
@settings(max_examples=100)
def test_members_lie_where_tarfile_finds_them(made: MadeTar) -> None:
    tar = made.to_bytes()
    assert rows(read_members(stored(tar), "a.tar")) == expected_rows(tar)


@given(made=tars.tars())
def test_local_files_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, made: MadeTar
) -> None:
    tar = made.to_bytes()
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(tar)
    found = read_members(LocalStorage(path.parent), "a.tar")
    assert rows(found) == expected_rows(tar)


def test_s3_is_read_alike(s3_storage: S3Storage) -> None:
    tar = write_tar([TarMember(f"{n:04}.jpg", bytes(n * 400)) for n in range(300)])
    s3_storage.write("a.tar", tar)
    assert rows(read_members(s3_storage, "a.tar")) == expected_rows(tar)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_many_small_members_are_found(form: int) -> None:
    time = {"mtime": "1700000000.25"} if form == tarfile.PAX_FORMAT else {}
    members = [
        TarMember(f"{n:06}.txt", bytes(n % 1500), format=form, records=time)
        for n in range(5000)
    ]
    tar = write_tar(members)
    assert rows(read_members(stored(tar), "a.tar")) == expected_rows(tar)


@given(tars.tars())
def test_the_ranges_of_members_and_global_headers_cover_the_tar(made: MadeTar) -> None:
    members = read_members(stored(made.to_bytes()), "a.tar")
    places = whole_places(members)
    assert [start for start, _ in places] == [0, *(stop for _, stop in places)][:-1]
    assert sum(stop - start for start, stop in places) + len(made.end) == members.file.size


@pytest.mark.parametrize("sparse_format", SPARSE_FORMATS)
def test_sparse_members_are_told_apart(tmp_path: Path, sparse_format: str) -> None:
    with open(tmp_path / "holes.bin", "wb") as file:
        for number in range(30):  # more holes than fit into one header
            file.seek(number * 100_000)
            file.write(b"data")
        file.truncate(4_000_000)
    (tmp_path / "after.txt").write_bytes(b"after")
    command = ["tar", *SPARSE_FORMATS[sparse_format], "-S", "-cf", "a.tar"]
    subprocess.run([*command, "holes.bin", "after.txt"], cwd=tmp_path, check=True)
    members = read_members(LocalStorage(tmp_path), "a.tar")
    assert members.names.to_pylist() == ["holes.bin", "after.txt"]
    assert bytes(members.kinds) == b"S0"
    after = tars.list_tar((tmp_path / "a.tar").read_bytes())[1]
    assert members.data_starts[1] == after.offset_data
    assert members.ends[0] == members.header_starts[1] == after.offset


def test_a_member_of_more_than_8_gib_is_skipped_not_read(tmp_path: Path) -> None:
    size = 9 << 30
    header = tarfile.TarInfo("large.bin")
    header.size = size
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with open(tmp_path / "a.tar", "wb") as file:
            file.write(header.tobuf(form))
            file.seek(size, 1)  # a hole
            file.write(write_tar([TarMember("b.txt", b"b")]))
        members = read_members(LocalStorage(tmp_path), "a.tar")
        assert members.sizes.tolist() == [size, 1]
        assert members.names.to_pylist() == ["large.bin", "b.txt"]


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, 1 << 70])
def test_a_size_that_no_file_has_is_refused(tmp_path: Path, size: int) -> None:
    header = tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT)
    written = b"\x80" + size.to_bytes(11, "big")
    good = TarMember("good.jpg", b"x").to_bytes()
    header = tars.sealed(header[:124] + written + header[136:])
    (tmp_path / "a.tar").write_bytes(good + header + bytes(1024))
    with pytest.raises(ShardError, match=r"member a\.jpg needs") as caught:
        read_members(LocalStorage(tmp_path), "a.tar")
    assert caught.value.offset == len(good)


@given(tars.tars())
def test_a_tar_cut_between_blocks_is_refused_where_the_first_member_is_not_whole(
    made: MadeTar,
) -> None:
    tar = made.to_bytes()
    whole = read_members(stored(tar), "a.tar")
    places = whole_places(whole)
    end = len(tar) - len(made.end)
    for size in range(0, len(tar), BLOCK):
        storage = stored(tar[:size])
        if size > end:  # one block of zeros and nothing after it is an end
            assert rows(read_members(storage, "a.tar")) == rows(whole)
            continue
        with pytest.raises(ShardError) as caught:
            read_members(storage, "a.tar")
        expected_offset = next((start for start, stop in places if stop > size), size)
        salvaged = read_members(storage, "a.tar", on_damage="salvage")
        assert rows(salvaged) == rows(whole)[: int((whole.ends <= size).sum())]
        assert salvaged.damage is not None
        assert caught.value.offset == salvaged.damage.start == expected_offset
        assert (caught.value.shard, salvaged.damage.stop) == ("a.tar", size)


@given(tars.tars(), st.data())
def test_a_tar_cut_inside_a_block_is_refused_too(
    made: MadeTar, data: st.DataObject
) -> None:
    tar = made.to_bytes()
    size = data.draw(st.integers(0, len(tar) - len(made.end)))
    with pytest.raises(ShardError):
        read_members(stored(tar[:size]), "a.tar")


@dataclass(frozen=True)
class Outcome:
    """What becomes of a damaged tar: members, and where the damage is said to be."""

    found: list[Row]
    offset: int | None


def outcome(tar: bytes) -> Outcome:
    found = read_members(stored(tar), "a.tar", on_damage="salvage")
    return Outcome(rows(found), found.damage.start if found.damage else None)


@given(tars.tars(), st.data(), st.integers(1, 255))
@settings(max_examples=150)
def test_a_flipped_byte_gives_an_error_or_the_same_members(
    made: MadeTar, data: st.DataObject, change: int
) -> None:
    tar = made.to_bytes()
    at = data.draw(st.integers(0, len(tar) - 1))
    flipped = bytearray(tar)
    flipped[at] ^= change
    before, after = outcome(tar), outcome(bytes(flipped))
    for number, (_, _, start, data_start, _) in enumerate(before.found):
        if data_start - BLOCK <= at < data_start:  # the member's own header
            neutral = (at - data_start) % BLOCK in CHECKSUM_ENDS
            refused = Outcome(before.found[:number], start)
            assert after == refused or (neutral and after == before)
            return
        if start <= at < data_start:  # names and records, which no checksum protects
            refused = Outcome(before.found[:number], start)
            assert after == refused or places_of(after) == places_of(before)
            return
    if after.offset is None:
        assert after == before
    else:
        assert after.found == before.found[: len(after.found)]
        assert after.offset <= at


def places_of(found: Outcome) -> list[tuple[int, int, int]]:
    return [(start, data_start, stop) for _, _, start, data_start, stop in found.found]


@given(tars.tars(), st.binary(min_size=1, max_size=2000).filter(any))
def test_bytes_behind_the_end_are_a_recorded_loss(made: MadeTar, junk: bytes) -> None:
    tar = made.to_bytes() + bytes(2 * BLOCK)
    found = read_members(stored(tar + junk), "a.tar")
    assert rows(found) == expected_rows(tar)
    assert found.trailing is not None
    assert found.trailing.start <= len(tar) + len(junk) - len(junk.lstrip(b"\0"))
    assert found.trailing.stop == len(tar + junk)


@given(tars.tars(), tars.members())
def test_joined_tars_are_damage_where_the_first_ends(
    made: MadeTar, more: TarMember
) -> None:
    tar = made.to_bytes()
    with pytest.raises(ShardError) as caught:
        read_members(stored(tar + write_tar([more])), "a.tar")
    assert caught.value.offset == len(tar) - len(made.end)


def pax(*records: tuple[str, str], kind: bytes = b"x") -> bytes:
    """Write a pax header with just these records, a keyword as often as it is given."""
    body = b"".join(map(tars.pax_record, *zip(*records, strict=True))) if records else b""
    return extension(kind, body)


def long_name(name: str) -> bytes:
    return extension(tarfile.GNUTYPE_LONGNAME, name.encode() + b"\0")


def extension(kind: bytes, body: bytes) -> bytes:
    return TarMember("././@PaxHeader", body, kind).to_bytes()


PLAIN = TarMember("a.jpg", b"d").to_bytes()
SIZE_ELSEWHERE = TarMember("a.jpg").to_bytes() + b"d".ljust(BLOCK, b"\0")
ODD_HEADERS = {
    "any keyword twice": pax(("comment", "a"), ("comment", "b")) + PLAIN,
    "path twice": pax(("path", "p1.jpg"), ("path", "p2.jpg")) + PLAIN,
    "size twice": pax(("size", "9999"), ("size", "1")) + SIZE_ELSEWHERE,
    "1.5 MB": pax(("comment", "c" * 1_500_000), ("path", "p.jpg")) + PLAIN,
    "20 MB": pax(("path", "p.jpg"), ("comment", "c" * 20_000_000)) + PLAIN,
    "a long name of 2 MB": long_name("d/" * 1_000_000 + "n.jpg") + PLAIN,
    "long name, same path": long_name("n.jpg") + pax(("path", "n.jpg")) + PLAIN,
    "path, other long name": pax(("path", "p.jpg")) + long_name("n.jpg") + PLAIN,
    "long name, no path": long_name("n.jpg") + pax(("comment", "c")) + PLAIN,
    "long link and linkpath": extension(b"K", b"t\0") + pax(("linkpath", "u")) + PLAIN,
    "two pax headers": pax(("path", "p.jpg")) + pax(("path", "p.jpg")) + PLAIN,
    "global between members": PLAIN + pax(("comment", "c"), kind=b"g") + PLAIN,
    "global after pax": pax(("path", "p.jpg")) + pax(("comment", "c"), kind=b"g") + PLAIN,
    "global after long name": long_name("n.jpg") + pax(("uid", "7"), kind=b"g") + PLAIN,
    "global twice, keyword twice": pax(("a", "b"), ("a", "c"), kind=b"g") * 2 + PLAIN,
    "global last": PLAIN + pax(("comment", "c"), kind=b"g"),
    "no records": pax() + PLAIN,
    "zeros behind the records": extension(b"x", tars.pax_record("path", "p") + bytes(9))
    + PLAIN,
    "records in a value": pax(("comment", "a\n9 path=b\n"), ("path", "p.jpg")) + PLAIN,
    "a keyword with a space": pax(("a b", "c"), ("path", "p.jpg")) + PLAIN,
    "a size with zeros before it": pax(("size", "0001")) + SIZE_ELSEWHERE,
    "Solaris": pax(("path", "p.jpg"), kind=b"X") + PLAIN,
    "extended attributes": pax(("SCHILY.xattr.user.a", "b"), ("path", "p.jpg")) + PLAIN,
    "a long name without its NUL": extension(b"L", b"n.jpg") + PLAIN,
    "volume label": TarMember("label", kind=b"V").to_bytes() + PLAIN,
    "device": TarMember("null", kind=tarfile.CHRTYPE).to_bytes() + PLAIN,
    "hard link": PLAIN + TarMember("b.jpg", kind=tarfile.LNKTYPE).to_bytes(),
}
"""Members that GNU tar and ``tarfile`` both read, and find the same names and sizes."""


def listed_by_tarfile(tar: bytes) -> list[tuple[str, int]]:
    return [(info.name, info.size) for info in tars.list_tar(tar) if info.isreg()]


def listed_by_gnu_tar(tar: bytes, folder: Path) -> list[tuple[str, int]] | None:
    """Give names and sizes of the files; None where it finds anything wrong."""
    (folder / "listed.tar").write_bytes(tar)
    command = ["tar", "--full-time", "--quoting-style=escape", "-tvf", "listed.tar"]
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC0"}
    done = subprocess.run(command, cwd=folder, capture_output=True, env=environment)
    lines = re.findall(r"(?m)^-\S+ \S+ +(\d+) \S+ \S+ (.+)$", done.stdout.decode())
    return None if done.returncode else [(name, int(size)) for size, name in lines]


def listed_here(tar: bytes) -> list[tuple[str, int]]:
    members = read_members(stored(tar), "a.tar")
    listed = zip(members.names.to_pylist(), members.sizes.tolist(), strict=True)
    return [row for row, kind in zip(listed, members.kinds, strict=True) if kind == FILE]


@pytest.mark.parametrize("odd", ODD_HEADERS)
def test_what_gnu_tar_and_tarfile_both_read_is_read(tmp_path: Path, odd: str) -> None:
    last = TarMember("z.txt", b"zz").to_bytes()
    tar = ODD_HEADERS[odd] + last + bytes(1024)
    expected = listed_by_tarfile(tar)
    assert expected[-1] == ("z.txt", 2)
    assert listed_by_gnu_tar(tar, tmp_path) == listed_here(tar) == expected


VALUES = {
    "path": ["p.jpg", "q.jpg"],
    "size": ["5", "0005"],
    "comment": ["", "a\n9 path=b\n"],
    "linkpath": ["t"],
    "uid": ["7"],
}
records_of_one = st.lists(
    st.sampled_from([(key, value) for key, values in VALUES.items() for value in values]),
    max_size=4,
)
others = records_of_one.map(
    lambda found: [r for r in found if r[0] not in ("path", "size")]
)
odd_members = st.tuples(
    st.lists(
        st.one_of(
            records_of_one.map(lambda records: pax(*records)),
            others.map(lambda records: pax(*records, kind=b"g")),
            st.sampled_from(["p.jpg", "n.jpg"]).map(long_name),
        ),
        max_size=3,
    ),
    st.just(TarMember("a.jpg", b"12345").to_bytes()),
).map(lambda parts: b"".join(parts[0]) + parts[1])


@given(st.lists(odd_members, min_size=1, max_size=3))
@settings(max_examples=60)
def test_headers_in_any_order_mean_what_they_mean_to_gnu_tar_and_tarfile(
    tmp_path_factory: pytest.TempPathFactory, odd: list[bytes]
) -> None:
    tar = b"".join(odd) + TarMember("z.txt", b"zz").to_bytes() + bytes(1024)
    expected = listed_by_tarfile(tar)
    found = listed_here(tar)
    assert [size for _, size in found] == [size for _, size in expected]
    if listed_by_gnu_tar(tar, tmp_path_factory.getbasetemp()) == expected:
        assert found == expected


def test_of_two_names_that_of_pax_counts_as_for_gnu_tar(tmp_path: Path) -> None:
    tar = long_name("n.jpg") + pax(("path", "p.jpg")) + PLAIN + bytes(1024)
    assert listed_by_tarfile(tar) == [("n.jpg", 1)]  # the first header's
    assert listed_here(tar) == listed_by_gnu_tar(tar, tmp_path) == [("p.jpg", 1)]


@pytest.mark.parametrize(
    "body",
    [b"13 path=p.jpgX", b"10 path=p.jpg\n", b"99 path=p.jpg\n", b" 14 path=p.jpg\n"]
    + [b"path=p.jpg\n", b"9 path a\n", b"0 path=a\n", b"7 size=\n", b"9 size=x\n"],
)  # fmt: skip
def test_a_pax_header_that_does_not_parse_costs_its_member_alone(body: bytes) -> None:
    tar = PLAIN + extension(b"x", body) + PLAIN + TarMember("z.txt", b"zz").to_bytes()
    members = read_members(stored(tar + bytes(1024)), "a.tar")
    assert [(name, kind) for kind, name, *_ in rows(members)] == [
        ("a.jpg", "0"),
        ("a.jpg", "x"),
        ("z.txt", "0"),
    ]
    hidden = PLAIN + extension(b"x", body) + SIZE_ELSEWHERE + bytes(1024)
    with pytest.raises(ShardError, match="its size is nowhere else") as caught:
        read_members(stored(hidden), "a.tar")
    assert caught.value.offset == len(PLAIN)


def test_two_sizes_of_one_member_are_refused() -> None:
    sizes = pax(("size", "1")) + pax(("size", "600"))
    with pytest.raises(ShardError, match="give different sizes"):
        read_members(stored(sizes + SIZE_ELSEWHERE + bytes(1024)), "a.tar")


@pytest.mark.parametrize("key", ["path", "size", "GNU.sparse.size"])
def test_a_global_name_or_size_costs_those_that_have_no_other(key: str) -> None:
    """Each copied byte for byte would be another sample without the header, or with it."""
    said = pax((key, "1"), kind=b"g")
    own = pax(("path", "own.jpg"), ("size", "1"))
    members = read_members(
        stored(PLAIN + said + PLAIN + own + PLAIN + PLAIN + bytes(1024)), "a.tar"
    )
    assert bytes(members.kinds) == (b"0SSS" if key.startswith("GNU") else b"0g0g")
    assert members.global_headers == ()


def test_a_global_header_before_many_plain_members_applies_to_all() -> None:
    plain = b"".join(TarMember(f"{n}.txt", b"x").to_bytes() for n in range(300))
    tar = plain + pax(("path", "g.jpg"), kind=b"g") + plain + bytes(1024)
    members = read_members(stored(tar), "a.tar")
    assert bytes(members.kinds) == b"0" * 300 + b"g" * 300
    assert members.names.to_pylist() == [info.name for info in tars.list_tar(tar)]


def test_after_a_long_header_no_more_is_read_than_before(tmp_path: Path) -> None:
    class Counting(LocalStorage):
        read_bytes = 0

        def local_path(self, path: str) -> None:  # type: ignore[override]
            return None

        def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
            data = super().read(path, start, stop)
            Counting.read_bytes += len(data)
            return data

    far = b"".join(TarMember(f"{n}.jpg", bytes(5 << 20)).to_bytes() for n in range(12))
    header = pax(("comment", "c" * (5 << 20)))
    (tmp_path / "a.tar").write_bytes(header + far + bytes(1024))
    assert len(read_members(Counting(tmp_path), "a.tar")) == 12
    assert Counting.read_bytes < 4 * len(header)


def test_headers_that_claim_to_be_huge_are_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with pytest.raises(ShardError, match="extension headers claim more"):
        read_members(stored(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)), "a.tar")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(write_tar([TarMember("a.jpg", b"x")])), "compressed with gzip"),
        (b"PK\x03\x04" + bytes(600), "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>" * 50, "HTML"),
        (b"\r\n  <html>404</html>", "HTML"),
        (b"\xef\xbb\xbf<!doctype html>" + b" " * 9000, "HTML"),
        ("<html>ü</html>".encode("utf-16"), "HTML"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML error"),
        (b'{"message": "not found"}', r"JSON: '\{\"message"),
        (b'\n [{"a": 1}]' * 500, "JSON"),
        (b"PAR1" + bytes(900), "Parquet"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "compressed with zstd"),
        (b"\xff\xd8\xff\xe0" + bytes(900), "JPEG"),
        (b"404: Not Found", "text: '404: Not Found'"),
        ("nicht gefunden: Größe".encode() * 100, "text: 'nicht"),
        (b"", "the file is empty"),
        (b"no tar\0" * 1000, "this is no tar header"),
        (bytes(range(256)) * 9, "this is no tar header"),
    ],
    ids=["gzip", "zip", "git lfs", "html", "html after a line", "html after a mark"]
    + ["html in UTF-16", "error of S3", "json", "json after a line", "parquet", "zstd"]
    + ["jpeg", "short text", "text", "empty", "binary", "any bytes"],
)
def test_what_is_no_tar_is_refused_by_name(content: bytes, what: str) -> None:
    with pytest.raises(ShardError, match=what) as caught:
        read_members(stored(content), "a.tar")
    assert caught.value.offset == 0


@pytest.mark.parametrize("name", ["{a}.jpg", "<a>.jpg", "BZh.jpg", "a b.txt"])
def test_a_damaged_tar_is_not_taken_for_something_else(name: str) -> None:
    tar = write_tar([TarMember(name, b"x" * 600)])
    with pytest.raises(ShardError) as caught:
        read_members(stored(tar[:600]), "a.tar")
    assert "no tar" not in str(caught.value)


def test_a_reason_on_record_is_short() -> None:
    member = TarMember("n" * 100_000 + ".jpg", bytes(5000), format=tarfile.PAX_FORMAT)
    found = read_members(stored(member.to_bytes()[:-2000]), "a.tar", on_damage="salvage")
    assert found.damage is not None
    assert found.damage.name == member.name
    assert len(found.damage.reason) <= MOST_REASON


@pytest.mark.parametrize("end", tars.ENDS)
def test_an_archive_of_nothing_has_no_members(end: bytes) -> None:
    assert len(read_members(stored(end), "a.tar")) == 0


def test_a_missing_tar_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        read_members(MemoryStorage(), "a.tar")


class ReplacedWhileRead(MemoryStorage):
    """Somebody uploads the shard again, with one more member, after the first read."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        data = super().read(path, start, stop)
        self.write(path, write_tar([TarMember("a.jpg", b"x")] * 2))
        return data


def test_a_tar_that_is_replaced_while_it_is_read_is_stale() -> None:
    storage = ReplacedWhileRead()
    storage.write("a.tar", write_tar([TarMember("a.jpg", b"x")]))
    with pytest.raises(StaleError, match=r"a\.tar: 2048 bytes .* found 3072 bytes"):
        read_members(storage, "a.tar")


def test_a_tar_of_the_same_size_and_another_version_is_stale(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a.tar", write_tar([TarMember("a.jpg", b"x")]))
    file = storage.stat("a.tar")
    check_unchanged(storage, file)
    storage.write("a.tar", write_tar([TarMember("a.jpg", b"y")]))
    with pytest.raises(StaleError, match="was replaced"):
        check_unchanged(storage, file)


@dataclass(frozen=True)
class Flipping(MemoryStorage):
    """A server on the way from which a bit flips, of some reads."""

    reads: list[int] = field(default_factory=list)
    """How many there were."""
    flips: tuple[int, ...] = ()
    """Of which, the first has 0."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        data = bytearray(super().read(path, start, stop))
        if len(self.reads) in self.flips:
            data[100 + len(self.reads)] ^= 2
        self.reads.append(start)
        return bytes(data)


@pytest.mark.parametrize("flips", [(0,), (1,), (0, 1), (1, 4), (0, 1, 2, 4)])
def test_damage_that_is_on_the_way_from_a_server_alone_is_none(
    flips: tuple[int, ...],
) -> None:
    members = [TarMember(f"{n}.jpg", bytes(5 << 20)) for n in range(3)]
    storage = Flipping(flips=flips)
    storage.write("a.tar", write_tar(members))
    assert [str(name) for name in read_members(storage, "a.tar").names] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
    ]


def test_damage_of_a_server_s_tar_is_told_when_it_is_found_twice() -> None:
    tar = bytearray(write_tar([TarMember("a.jpg", b"x"), TarMember("b.jpg", b"y")]))
    tar[2 * BLOCK + 100] ^= 2
    storage = Flipping(flips=(0,))
    storage.write("a.tar", bytes(tar))
    with pytest.raises(ShardError, match="checksum of a header") as told:
        read_members(storage, "a.tar")
    assert told.value.offset == 2 * BLOCK
