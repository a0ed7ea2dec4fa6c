"""Every member of every kind of tar is found where ``tarfile`` finds it, or damage is."""

import gzip
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import NotFoundError, ShardError, StaleError
from curation.storage import LocalStorage, MemoryStorage, S3Storage
from curation.tar import Members, check_unchanged, read_members
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


def test_a_contradiction_between_headers_is_refused() -> None:
    pax = TarMember("n" * 120, b"x", format=tarfile.PAX_FORMAT).to_bytes()
    gnu = TarMember("m" * 120, b"x", format=tarfile.GNU_FORMAT).to_bytes()
    extension = tarfile.TarInfo("n" * 120).tobuf(tarfile.PAX_FORMAT)[:-BLOCK]
    with pytest.raises(ShardError, match="contradict"):
        read_members(stored(extension + gnu + bytes(1024)), "a.tar")
    assert len(read_members(stored(pax + gnu + bytes(1024)), "a.tar")) == 2


def test_a_global_name_is_refused() -> None:
    member = TarMember("a.jpg", b"x", global_records={"path": "all.jpg"})
    with pytest.raises(ShardError, match="all members one name"):
        read_members(stored(write_tar([member])), "a.tar")


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
        (b"", "the file is empty"),
        (b"no tar" * 1000, "this is no tar header"),
    ],
    ids=["gzip", "zip", "git lfs", "html", "empty", "text"],
)
def test_what_is_no_tar_is_refused_by_name(content: bytes, what: str) -> None:
    with pytest.raises(ShardError, match=what) as caught:
        read_members(stored(content), "a.tar")
    assert caught.value.offset == 0


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
