"""However a tar is read, in whatever pieces, the same members are found."""

import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.tar_header import header_name
from curation.tar_walk import FileAccess, Loss, TarWalk, text_of
from curation.testing import tars
from curation.testing.tars import BLOCK, MadeTar, TarMember, write_tar

Found = tuple[list[tuple[str, int, int, int]], list[tuple[int, int]], Loss | None]


def walk(tar: bytes, window: int, gap: int) -> tuple[Found, list[tuple[int, int]]]:
    """Give what is found, and which ranges were read for it."""
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> bytes:
        reads.append((start, min(stop, len(tar))))
        return tar[start:stop]

    walker = TarWalk(FileAccess(read, len(tar), window, gap))
    members = []
    for batch in walker.batches():
        for row, header in enumerate(batch.headers):
            name = batch.names.get(row) or header_name(header.tobytes())
            columns = batch.header_starts, batch.data_starts, batch.sizes
            members.append((text_of(name), *(int(column[row]) for column in columns)))
    return (members, walker.global_headers, walker.damage), reads


@given(
    tars.tars(),
    st.integers(1, 200).map(lambda blocks: blocks * BLOCK),
    st.sampled_from([0, 100, 4 * BLOCK, 1 << 20]),
    st.integers(0, 3000),
)
@settings(max_examples=100)
def test_windows_and_gaps_change_nothing(
    made: MadeTar, window: int, gap: int, cut: int
) -> None:
    tar = made.to_bytes()
    tar = tar[: max(0, len(tar) - cut)]
    at_once, _ = walk(tar, window=1 << 20, gap=1 << 20)
    assert walk(tar, window, gap)[0] == at_once


@example(30, tarfile.USTAR_FORMAT)
@given(st.integers(0, 120), st.sampled_from([tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT]))
@settings(max_examples=30)
def test_plain_members_are_found_as_special_ones_are(size: int, form: int) -> None:
    time = {"mtime": "1700000000.25"} if form == tarfile.PAX_FORMAT else {}
    special = TarMember("long" * 40 + ".jpg", b"x", format=tarfile.GNU_FORMAT)
    members = [
        special
        if number % 50 == 7
        else TarMember(
            f"{number}.txt", bytes(number * size % 2000), format=form, records=time
        )
        for number in range(200)
    ]
    tar = write_tar(members)
    by_window, _ = walk(tar, window=1 << 20, gap=1 << 20)
    one_by_one, _ = walk(tar, window=BLOCK, gap=0)
    assert by_window == one_by_one
    listed = [(i.name, i.offset, i.offset_data, i.size) for i in tars.list_tar(tar)]
    assert by_window[0] == listed


def test_large_data_is_not_read() -> None:
    tar = write_tar([TarMember(f"{n}.jpg", bytes(1 << 20)) for n in range(20)])
    (members, _, _), reads = walk(tar, window=2 << 20, gap=16 << 10)
    assert len(members) == 20
    assert sum(stop - start for start, stop in reads) < len(tar) / 10


def test_small_data_is_read_in_few_windows() -> None:
    tar = write_tar([TarMember(f"{n}.txt", bytes(60)) for n in range(5000)])
    (members, _, _), reads = walk(tar, window=2 << 20, gap=16 << 10)
    assert len(members) == 5000
    assert len(reads) < 20


def test_extension_headers_longer_than_a_window_are_read() -> None:
    member = TarMember("a/" * 20_000 + "b.jpg", b"x", format=tarfile.PAX_FORMAT)
    found, _ = walk(write_tar([member, TarMember("c.txt", b"c")]), window=BLOCK, gap=0)
    assert [name for name, *_ in found[0]] == [member.name, "c.txt"]
    assert found[2] is None


def test_a_file_that_becomes_shorter_while_it_is_read_is_damage() -> None:
    tar = write_tar([TarMember(f"{n}.jpg", bytes(5000)) for n in range(3)])
    shorter = tar[: 2 * 5632]
    walker = TarWalk(
        FileAccess(lambda start, stop: shorter[start:stop], len(tar), BLOCK, 0)
    )
    assert sum(len(batch.headers) for batch in walker.batches()) == 2
    assert walker.damage is not None
    assert "became shorter" in walker.damage.reason


@pytest.mark.parametrize("name", [b"a.jpg", "ü.jpg".encode(), b"\xff.jpg"])
def test_names_keep_their_bytes_apart(name: bytes) -> None:
    assert text_of(name) == name.decode(errors="backslashreplace")
