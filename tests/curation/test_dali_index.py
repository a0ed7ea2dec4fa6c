"""An ``.idx`` is what DALI's own program writes, and DALI reads the right bytes by it."""

import contextlib
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import wds2idx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.dali_index import (
    IndexEntry,
    check_index_fits,
    count_extensions,
    find_difference,
    format_index,
    parse_index,
)
from curation.errors import IndexFormatError, NotFoundError
from curation.index import ShardIndex, build_index
from curation.storage import LocalStorage, MemoryStorage
from curation.tar import read_members
from curation.testing import tars
from curation.testing.readers import WDS2IDX, index_with_wds2idx, read_with_dali
from curation.testing.tars import BLOCK, MadeTar, TarMember, write_tar


@pytest.fixture(scope="module", autouse=True)
def _plain_gnu_tar() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WDS2IDX.items():
            patch.setenv(name, value)
        yield


def index_of(tar: bytes) -> ShardIndex:
    storage = MemoryStorage()
    storage.write("a.tar", tar)
    return build_index(read_members(storage, "a.tar"))


def run_wds2idx(tar: bytes, folder: Path) -> bytes:
    """Run what the console script runs, without the start of another Python."""
    (folder / "a.tar").write_bytes(tar)
    paths = str(folder / "a.tar"), str(folder / "a.idx")
    with wds2idx.IndexCreator(*paths, verbose=False) as creator:
        creator.create_index()
    return (folder / "a.idx").read_bytes()


FORMATS = (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT)


@given(members=tars.sample_members(formats=FORMATS).filter(bool), others=tars.tars())
def test_the_index_is_that_of_wds2idx(
    tmp_path_factory: pytest.TempPathFactory, members: list[TarMember], others: MadeTar
) -> None:
    folders = [TarMember(f"{n}/", kind=tarfile.DIRTYPE) for n in range(len(members) // 3)]
    links = [m for m in others.members if m.kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE)]
    tar = MadeTar((*folders, *members, *links), others.end).to_bytes()
    expected = run_wds2idx(tar, tmp_path_factory.mktemp("wds2idx"))
    assert format_index(index_of(tar)) == expected


@pytest.mark.parametrize("quirk", ["base-256 size", "spaces for zeros", "v7"])
def test_the_index_of_old_headers_is_that_of_wds2idx(tmp_path: Path, quirk: str) -> None:
    members = [TarMember(f"a/{n}.jpg", bytes(n * 99), quirk=quirk) for n in range(9)]
    tar = write_tar(members)
    assert format_index(index_of(tar)) == run_wds2idx(tar, tmp_path)


@pytest.mark.parametrize("name", ["./a/ü.b.jpg", "new\nline.jpg", "tab\t\\.txt", "🦆.\x7f"])
def test_odd_names_are_written_as_wds2idx_writes_them(tmp_path: Path, name: str) -> None:
    tar = write_tar([TarMember(name, b"x", format=tarfile.PAX_FORMAT), TarMember("b.jpg")])
    assert format_index(index_of(tar)) == run_wds2idx(tar, tmp_path)


def test_the_console_script_writes_the_same(tmp_path: Path) -> None:
    members = [
        TarMember(f"{n:05}.{e}", bytes(n)) for n in range(200) for e in ("jpg", "x.y")
    ]
    (tmp_path / "a.tar").write_bytes(write_tar(members))
    assert format_index(index_of(write_tar(members))) == index_with_wds2idx(
        tmp_path / "a.tar"
    )


def test_a_shard_without_samples_has_an_index_that_says_so() -> None:
    assert format_index(index_of(write_tar([]))) == b"v1.2 0\n"
    assert parse_index(b"v1.2 0\n", "a.tar") == []


@given(tars.tars())
def test_what_is_written_is_read_back(made: MadeTar) -> None:
    index = index_of(made.to_bytes())
    samples = parse_index(format_index(index), "a.tar")
    entries = [entry for sample in samples for entry in sample]
    columns = [
        index.components[name] for name in ("extension", "data_start", "size", "name")
    ]
    values = (column.to_pylist() for column in columns)
    expected = [IndexEntry(*row) for row in zip(*values, strict=True)]
    assert entries == expected
    assert [len(s) for s in samples] == [
        b - a for a, b in zip(index.sample_starts, index.sample_starts[1:], strict=False)
    ]


@given(members=tars.sample_members(adjacent=False))
@settings(max_examples=15)
def test_dali_reads_every_component_by_it(
    tmp_path_factory: pytest.TempPathFactory, members: list[TarMember]
) -> None:
    first = TarMember("with space.jpg", b"one")  # DALI refuses an index of nothing
    folder = tmp_path_factory.mktemp("dali")
    tar = write_tar([*members, first, TarMember("with space.txt", b"two")])
    (folder / "a.tar").write_bytes(tar)
    index = index_of(tar)
    (folder / "a.idx").write_bytes(format_index(index))
    extensions = ["jpg", "png", "txt", "json", "seg.png"]
    found = read_with_dali(folder / "a.tar", folder / "a.idx", extensions)
    data = {m.name: m.data for m in [*members, first]} | {"with space.txt": b"two"}
    assert found == [
        [data.get(f"{key}.{e}", b"") for e in extensions] for key in index.keys
    ]


def test_version_1_1_has_no_names() -> None:
    assert parse_index(b"v1.1 2\njpg 512 5 txt 1536 6\njpg 2560 7\n", "a.tar") == [
        (IndexEntry("jpg", 512, 5, ""), IndexEntry("txt", 1536, 6, "")),
        (IndexEntry("jpg", 2560, 7, ""),),
    ]


def test_carriage_returns_and_a_missing_last_newline_are_read() -> None:
    expected = [(IndexEntry("jpg", 512, 5, "a.jpg"),)]
    assert parse_index(b"v1.2 1\r\njpg 512 5 a.jpg", "a.tar") == expected


@pytest.mark.parametrize(
    "text",
    [b"", b"v1.0 1\njpg 512 5 a.jpg\n", b"v1.2\n", b"v1.2 x\n", b"v1.2 -1\n", b"\xff\xfe"]
    + [b"v1.2 2\njpg 512 5 a.jpg\n", b"v1.2 0\njpg 512 5 a.jpg\n"]
    + [b"v1.2 1\njpg 512 5\n", b"v1.2 1\njpg 512 -5 a.jpg\n", b"v1.2 1\njpg x 5 a.jpg\n"],
)
def test_what_is_no_index_is_refused_with_its_shard(text: bytes) -> None:
    with pytest.raises(IndexFormatError, match=r"^x/a\.tar: ") as caught:
        parse_index(text, "x/a.tar")
    assert caught.value.shard == "x/a.tar"


@given(tars.sample_members(adjacent=False), st.data())
def test_a_damaged_index_is_refused_or_has_entries(
    members: list[TarMember], data: st.DataObject
) -> None:
    text = bytearray(format_index(index_of(write_tar(members))))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        samples = parse_index(bytes(text), "a.tar")
    except IndexFormatError:
        return
    assert all(entry.start >= 0 and entry.size >= 0 for s in samples for entry in s)


def fits(samples: list[tuple[IndexEntry, ...]], tar: bytes) -> None:
    storage = MemoryStorage()
    storage.write("a.tar", tar)
    check_index_fits(samples, storage, "a.tar")


@given(tars.tars())
@example(MadeTar((TarMember("\udcff.jpg", format=tarfile.PAX_FORMAT),), bytes(2 * BLOCK)))
def test_an_index_fits_its_own_shard(made: MadeTar) -> None:
    tar = write_tar(member for member in made.members if member.quirk != "size record")
    fits(parse_index(format_index(index_of(tar)), "a.tar"), tar)


@given(tars.sample_members(), tars.sample_members())
def test_an_index_that_fits_another_shard_has_its_first_and_last_components(
    ours: list[TarMember], theirs: list[TarMember]
) -> None:
    samples = parse_index(format_index(index_of(write_tar(theirs))), "a.tar")
    tar = write_tar(ours)
    with contextlib.suppress(IndexFormatError):
        fits(samples, tar)
        entries = [entry for sample in samples for entry in sample]
        listed = {(i.offset_data, i.size): i.name for i in tars.list_tar(tar)}
        for entry in entries[:1] + entries[-1:]:
            name = listed[entry.start, entry.size]
            # an extension header, which nobody looks at here, may hold a long name
            assert name == entry.name or len(entry.name) > 100 or "\\" in entry.name


@pytest.mark.parametrize(
    "entry",
    [
        IndexEntry("jpg", 100, 5, "a.jpg"),
        IndexEntry("jpg", 0, 5, "a.jpg"),
        IndexEntry("jpg", 512, 100_000, "a.jpg"),
        IndexEntry("jpg", 1 << 40, 5, "a.jpg"),
        IndexEntry("jpg", 512, 4, "a.jpg"),
        IndexEntry("jpg", 512, 5, "b.jpg"),
        IndexEntry("jpg", 1024, 5, "a.jpg"),
    ],
)
def test_an_index_of_another_shard_is_refused(entry: IndexEntry) -> None:
    tar = write_tar([TarMember("a.jpg", b"12345"), TarMember("b.jpg", b"1" * BLOCK)])
    fits([(IndexEntry("jpg", 512, 5, "a.jpg"),)], tar)
    with pytest.raises(IndexFormatError, match="make it again"):
        fits([(entry,)], tar)


def test_an_index_of_overlapping_components_is_refused() -> None:
    tar = write_tar([TarMember("a.jpg", b"1" * 2000), TarMember("b.jpg", b"2")])
    first = IndexEntry("jpg", 512, 2000, "a.jpg")
    with pytest.raises(IndexFormatError, match="no member's data can begin there"):
        fits([(first,), (IndexEntry("jpg", 1024, 5, "b.jpg"),)], tar)


def test_a_missing_shard_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        check_index_fits([], LocalStorage(tmp_path), "a.tar")


@given(tars.sample_members(adjacent=False).filter(bool), st.randoms())
def test_an_index_that_says_the_same_in_other_words_has_no_difference(
    members: list[TarMember], random: Random
) -> None:
    index = index_of(write_tar(members))
    first, *lines = format_index(index).splitlines()
    random.shuffle(lines)
    groups = [line.split() for line in lines]
    without_names = [
        b" ".join(field for n, field in enumerate(fields) if n % 4 < 3) for fields in groups
    ]
    assert find_difference(b"\r\n".join([first, *lines]), index) is None
    assert find_difference(b"\n".join([b"v1.1" + first[4:], *without_names]), index) is None


@given(tars.sample_members(), tars.sample_members())
def test_an_index_differs_unless_every_component_lies_where_it_says(
    one: list[TarMember], other: list[TarMember]
) -> None:
    index, others = index_of(write_tar(one)), index_of(write_tar(other))
    columns = ["sample", "extension", "data_start", "size"]
    same = index.components.select(columns) == others.components.select(columns)
    assert (find_difference(format_index(others), index) is None) == same


def test_a_difference_is_named() -> None:
    index = index_of(write_tar([TarMember("a.jpg", b"1"), TarMember("b.jpg", b"2")]))
    text = format_index(index)
    assert find_difference(b"v1.2 1\n" + text.splitlines()[1], index) == (
        "it lists 1 samples, and the shard has 2"
    )
    moved = text.replace(b" 1536 ", b" 2048 ")
    assert "jpg has 1 bytes from byte 2048" in str(find_difference(moved, index))
    first, one, _ = text.splitlines()
    assert "from byte 512" in str(find_difference(b"\n".join([first, one, one]), index))
    assert "first line" in str(find_difference(b"no index", index))


@given(members=tars.sample_members(formats=FORMATS))
def test_extensions_are_counted_as_the_parsed_index_has_them(
    members: list[TarMember],
) -> None:
    data = format_index(index_of(MadeTar(tuple(members), bytes(2 * BLOCK)).to_bytes()))
    parsed = parse_index(data, "a.tar")
    expected = Counter(tuple(one.extension for one in sample) for sample in parsed)
    assert count_extensions(data, "a.tar") == expected


@pytest.mark.parametrize("data", [b"", b"v1.2 2\njpg 512 1 a.jpg\n", b"v1.1 0\n", b"v1.2"])
def test_extensions_of_a_damaged_index_are_not_counted(data: bytes) -> None:
    with pytest.raises(IndexFormatError, match="first line"):
        count_extensions(data, "a.tar")
