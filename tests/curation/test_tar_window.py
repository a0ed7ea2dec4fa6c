"""Many headers at once mean what each of them means."""

import tarfile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.tar_window import checksums_are_right, plain_members
from curation.testing import tars
from curation.testing.tars import BLOCK, TarMember, write_tar

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@st.composite
def plain_tars(draw: st.DrawFn) -> list[TarMember]:
    """Members as most programs write them, some with a pax header of their time."""
    made = []
    for number in range(draw(st.integers(0, 12))):
        form = draw(FORMATS)
        with_time = form == tarfile.PAX_FORMAT and draw(st.booleans())
        time = {"mtime": str(draw(st.floats(1e-3, 2e9)))} if with_time else {}
        name, data = f"{number:03}.jpg", bytes(draw(st.integers(0, 1600)))
        made.append(TarMember(name, data, format=form, records=time))
    return made


@given(plain_tars())
def test_plain_members_lie_where_tarfile_finds_them(members: list[TarMember]) -> None:
    tar = write_tar(members)
    found = plain_members(tar)
    listed = tars.list_tar(tar)
    assert (BLOCK * found.header_starts).tolist() == [info.offset for info in listed]
    assert (BLOCK * found.data_starts).tolist() == [info.offset_data for info in listed]
    assert found.sizes.tolist() == [info.size for info in listed]
    names = [bytes(header[:100]).rstrip(b"\0").decode() for header in found.headers]
    assert names == [info.name for info in listed]


@given(plain_tars(), tars.tars(), plain_tars())
@settings(max_examples=100)
def test_members_behind_one_that_is_not_plain_are_left_alone(
    before: list[TarMember], others: tars.MadeTar, behind: list[TarMember]
) -> None:
    tar = write_tar([*before, *others.members, *behind])
    found = plain_members(tar)
    listed = tars.list_tar(tar)[: len(found.sizes)]
    assert len(found.sizes) >= len(before)
    assert (BLOCK * found.header_starts).tolist() == [info.offset for info in listed]
    assert (BLOCK * found.data_starts).tolist() == [info.offset_data for info in listed]
    assert found.sizes.tolist() == [info.size for info in listed]
    assert all(info.isreg() for info in listed)


def test_data_that_looks_like_a_header_ends_the_run_and_misleads_nobody() -> None:
    inner = write_tar([TarMember("inner.jpg", b"x")])
    tar = write_tar([TarMember(f"{n}.tar", inner if n == 2 else b"x") for n in range(5)])
    found = plain_members(tar)
    assert 2 <= len(found.sizes) <= 3
    listed = tars.list_tar(tar)[: len(found.sizes)]
    assert (BLOCK * found.data_starts).tolist() == [info.offset_data for info in listed]


@given(plain_tars(), st.integers(0, 40))
def test_a_window_that_ends_in_a_member_gives_those_whose_headers_it_has(
    members: list[TarMember], num_blocks: int
) -> None:
    tar = write_tar(members)
    window = tar[: num_blocks * BLOCK]
    found = plain_members(window)
    headers = [info for info in tars.list_tar(tar) if info.offset_data <= len(window)]
    assert (BLOCK * found.data_starts).tolist() == [info.offset_data for info in headers]


@given(plain_tars().filter(bool), st.data(), st.integers(1, 255))
def test_a_header_with_a_wrong_checksum_ends_the_run(
    members: list[TarMember], data: st.DataObject, change: int
) -> None:
    tar = bytearray(write_tar(members))
    number = data.draw(st.integers(0, len(members) - 1))
    own = tars.list_tar(bytes(tar))[number].offset_data - BLOCK
    tar[own + data.draw(st.integers(0, 147))] ^= change
    assert len(plain_members(bytes(tar)).sizes) == number


@given(st.lists(st.binary(min_size=BLOCK, max_size=BLOCK), max_size=6), st.data())
def test_checksums_are_verified_as_tarfile_does(
    blocks: list[bytes], data: st.DataObject
) -> None:
    sealed = [tars.sealed(block) if data.draw(st.booleans()) else block for block in blocks]
    headers = np.frombuffer(b"".join(sealed), np.uint8).reshape(-1, BLOCK)
    assert checksums_are_right(headers).tolist() == [_tarfile_accepts(b) for b in sealed]


def _tarfile_accepts(block: bytes) -> bool:
    try:
        return tarfile.nti(block[148:156]) in tarfile.calc_chksums(block)
    except tarfile.InvalidHeaderError:
        return False
