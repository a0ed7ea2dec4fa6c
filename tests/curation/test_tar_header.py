"""Headers mean what ``tarfile`` takes them to mean, and are written as it writes them."""

import tarfile

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.tar_header import (
    CHECKSUM,
    METADATA_LIMIT,
    PLAIN_SIZE_LIMIT,
    checksum_is_right,
    format_header,
    header_name,
    padded,
    parse_global_header,
    parse_headers,
    parse_number,
    parse_pax_records,
)
from curation.testing import tars
from curation.testing.tars import BLOCK, TarMember

names_for_writing = tars.names().filter(lambda name: "\udcff" not in name).filter(bool)


@given(st.integers(0, 8**11 - 1))
def test_octal_numbers_are_read(number: int) -> None:
    assert parse_number(tarfile.itn(number, 12)) == number
    assert parse_number(b"%11o " % number) == number
    assert parse_number(b"%012o" % number) == number


@given(st.integers(0, 256**11 - 1))
def test_binary_numbers_are_read(number: int) -> None:
    assert parse_number(tarfile.itn(number, 12, tarfile.GNU_FORMAT)) == number


def test_an_empty_field_is_zero_and_a_negative_one_is_refused() -> None:
    assert parse_number(bytes(12)) == parse_number(b" " * 12) == 0
    with pytest.raises(ValueError, match="negative"):
        parse_number(tarfile.itn(-1, 12, tarfile.GNU_FORMAT))
    with pytest.raises(ValueError, match="size field holds"):
        parse_number(b"0000000009x\0")


@given(st.dictionaries(st.text(min_size=1).filter(lambda k: "=" not in k), st.text()))
def test_pax_records_are_read_as_tarfile_writes_them(records: dict[str, str]) -> None:
    block = tarfile.TarInfo.create_pax_global_header(records)
    body = block[BLOCK : BLOCK + parse_number(block[124:136])]
    expected = {key.encode(): value.encode() for key, value in records.items()}
    assert parse_pax_records(body) == expected
    assert parse_pax_records(block[BLOCK:]) == expected  # zeros behind them are padding


@pytest.mark.parametrize(
    "body", [b"x path=a\n", b"99 path=a\n", b"8 path=a\n", b"10 path=ab", b"9 path a\n"]
    + [b"0 path=a\n", b"-9 path=a\n"],
)  # fmt: skip
def test_pax_records_that_do_not_parse_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="pax header is wrong"):
        parse_pax_records(body)


@pytest.mark.parametrize("keyword", ["path", "comment", "GNU.sparse.offset"])
def test_of_a_keyword_that_comes_twice_the_last_counts(keyword: str) -> None:
    body = tars.pax_record(keyword, "1") + tars.pax_record(keyword, "2")
    assert parse_pax_records(body) == {keyword.encode(): b"2"}


@given(tars.members())
def test_all_headers_of_a_member_are_read_together(member: TarMember) -> None:
    written = member.to_bytes()
    (info,) = tars.list_tar(written + bytes(1024))
    found = parse_headers(b"?" * BLOCK + written, BLOCK)
    assert found is not None
    assert found.data_start == BLOCK + info.offset_data
    assert found.size == info.size == len(member.data)
    own = written[info.offset_data - BLOCK : info.offset_data]
    name = header_name(own) if found.name is None else found.name
    assert name == member.name.encode("utf-8", "surrogateescape")
    assert all(
        checksum_is_right((b"?" * BLOCK + written)[b : b + BLOCK]) for b in found.blocks
    )


@given(tars.members())
def test_headers_that_a_window_cuts_off_are_not_guessed(member: TarMember) -> None:
    written = member.to_bytes()
    headers = written[: len(written) - padded(len(member.data))]
    for size in range(0, len(headers), BLOCK):
        assert parse_headers(headers[:size], 0) is None
    assert parse_headers(headers, 0) is not None


def test_a_global_header_ends_where_its_records_end() -> None:
    header = tars.global_header({"comment": "x" * 2000})
    after = BLOCK + len(header)
    assert parse_global_header(b"?" * BLOCK + header, BLOCK) == (after, {})
    assert parse_global_header(header[:-BLOCK], 0) is None
    of_size = tars.global_header({"size": "1", "comment": "x"})
    assert parse_global_header(of_size, 0) == (len(of_size), {b"size": b"1"})
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XGLTYPE, METADATA_LIMIT
    with pytest.raises(ValueError, match="claims more than"):
        parse_global_header(huge.tobuf(tarfile.USTAR_FORMAT), 0)


@given(st.binary(min_size=BLOCK, max_size=BLOCK))
def test_checksums_are_those_of_tarfile(content: bytes) -> None:
    for claimed in tarfile.calc_chksums(content):
        assume(claimed >= 0)
        field = b"%06o\0 " % claimed
        header = content[: CHECKSUM.start] + field + content[CHECKSUM.stop :]
        assert checksum_is_right(header)
        wrong = content[: CHECKSUM.start] + b"%06o\0 " % (claimed + 1)
        right_for = tarfile.calc_chksums(wrong + content[CHECKSUM.stop :])
        is_right = claimed + 1 in right_for
        assert checksum_is_right(wrong + content[CHECKSUM.stop :]) == is_right


@pytest.mark.parametrize("field", [bytes(8), b" " * 8, b"0000x000"])
def test_a_header_without_a_checksum_has_no_right_one(field: bytes) -> None:
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    header[CHECKSUM] = field
    assert not checksum_is_right(bytes(header))


@given(names_for_writing, st.integers(0, 8**11 - 1))
@example("ü" * 50 + ".jpg", 0)
@example("a" * 60 + "/" + "b" * 100, 7)
@example("a" * 156 + "/b", 7)
def test_headers_are_written_as_tarfile_writes_them(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    try:
        expected = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError:
        assume(name.isascii())  # beyond ASCII only ustar's name is defined by others
        expected = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    assert format_header(name, size) == expected


@given(
    names_for_writing,
    st.sampled_from([0, 5, PLAIN_SIZE_LIMIT - 1, PLAIN_SIZE_LIMIT, 1 << 40]),
)
def test_written_headers_are_read_back(name: str, size: int) -> None:
    written = format_header(name, size)
    found = parse_headers(written, 0)
    assert found is not None
    assert (found.data_start, found.size) == (len(written), size)
    own = header_name(written[-BLOCK:])
    assert (own if found.name is None else found.name) == name.encode()


def test_names_that_no_tar_can_hold_are_refused() -> None:
    for name, size in (("", 1), ("a\0b", 1), ("a", -1)):
        with pytest.raises(InputError, match="can have the name"):
            format_header(name, size)
