"""Samples are what webdataset makes of a tar, and nothing is left out without a word."""

import io
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import NotFoundError, StaleError, TableError
from curation.index import (
    ShardIndex,
    build_index,
    read_catalog,
    read_indexed_file,
    split_names,
    write_catalog,
)
from curation.storage import LocalStorage, MemoryStorage, S3Storage
from curation.tar import read_members
from curation.testing import tars
from curation.testing.image_shards import make_tar
from curation.testing.tars import BLOCK, MadeTar, TarMember, write_tar

KEY_AND_EXTENSION = re.compile(r"((?:.*/)?[^./]+)[.]([^/]+)", re.DOTALL)
"""webdataset's rule, but for hidden files, which it takes for samples named ``folder/``."""


def index_of(tar: bytes, *, salvage: bool = False) -> ShardIndex:
    storage = MemoryStorage()
    storage.write("a.tar", tar)
    on_damage = "salvage" if salvage else "error"
    return build_index(read_members(storage, "a.tar", on_damage=on_damage))


def samples_of(index: ShardIndex) -> dict[str, list[tuple[str, int, int]]]:
    """Key to extension, begin and size of each component, both in order."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for row in index.components.to_pylist():
        place = row["extension"], row["data_start"], row["size"]
        found.setdefault(row["key"], []).append(place)
    return found


def expected_samples(tar: bytes) -> dict[str, list[tuple[str, int, int]]]:
    """Group what ``tarfile`` finds, by the rule for names."""
    found: dict[str, dict[str, tuple[str, int, int]]] = defaultdict(dict)
    for info in tars.list_tar(tar):
        match = KEY_AND_EXTENSION.fullmatch(tars.shown_name(info))
        if info.isreg() and match:
            place = match[2], info.offset_data, info.size
            found[match[1]].setdefault(match[2], place)
    return {key: list(places.values()) for key, places in found.items()}


def webdataset_samples(tar: bytes) -> Iterator[dict[str, Any]]:
    files = webdataset.tariterators.tar_file_iterator(io.BytesIO(tar))
    named = ({**file, "__url__": "a.tar"} for file in files)
    return webdataset.tariterators.group_by_keys(named)


@given(tars.tars())
@settings(max_examples=100)
def test_samples_are_all_files_with_one_key(made: MadeTar) -> None:
    tar = made.to_bytes()
    index = index_of(tar)
    assert samples_of(index) == expected_samples(tar)
    assert index.keys == list(expected_samples(tar))
    assert len(index) == len(index.keys)


@given(tars.sample_members())
def test_samples_are_those_that_webdataset_gives(members: list[TarMember]) -> None:
    tar = write_tar(members)
    given_samples = [
        {key: value for key, value in sample.items() if not key.startswith("__")}
        | {"__key__": sample["__key__"]}
        for sample in webdataset_samples(tar)
    ]
    ours = [
        {ext: tar[start : start + size] for ext, start, size in places} | {"__key__": key}
        for key, places in samples_of(index_of(tar)).items()
    ]
    assert ours == given_samples


@given(tars.tars())
def test_every_file_is_a_component_or_a_loss_with_a_reason(made: MadeTar) -> None:
    tar = made.to_bytes()
    index = index_of(tar)
    found = index.components["name"].to_pylist() + index.losses["name"].to_pylist()
    expected = [tars.shown_name(i) for i in tars.list_tar(tar) if not i.isdir()]
    assert sorted(found) == sorted(expected)
    assert index.losses["loss"].null_count == 0
    assert index.losses["sample"].null_count == len(index.losses)


@given(tars.tars())
def test_components_keep_where_their_headers_begin_and_their_padding_ends(
    made: MadeTar,
) -> None:
    tar = made.to_bytes()
    starts = {info.offset_data: info.offset for info in tars.list_tar(tar)}
    for row in index_of(tar).components.to_pylist():
        assert row["header_start"] == starts[row["data_start"]]
        assert row["end"] == row["data_start"] + row["size"] + -row["size"] % BLOCK
        assert row["name"] == f"{row['key']}.{row['extension']}"


@given(tars.tars(), st.data())
def test_a_salvaged_index_has_only_samples_that_are_whole(
    made: MadeTar, data: st.DataObject
) -> None:
    tar = made.to_bytes()
    cut = data.draw(st.integers(0, len(tar) - len(made.end)))
    whole, salvaged = samples_of(index_of(tar)), index_of(tar[:cut], salvage=True)
    found = samples_of(salvaged)
    before = {
        key: [place for place in places if place[1] + place[2] <= cut]
        for key, places in whole.items()
    }
    # all but the last sample before the damage, as far as they lie before it
    assert found.items() <= before.items()
    assert len(found) >= sum(map(bool, before.values())) - 1
    assert salvaged.losses["end"].to_pylist()[-1] == cut


def test_reasons_say_why_a_member_belongs_to_no_sample() -> None:
    link = TarMember("link.jpg", kind=tarfile.SYMTYPE)
    pipe = TarMember("pipe.jpg", kind=tarfile.FIFOTYPE)
    names = ["a.jpg", "x/.hidden.jpg", "README", "b.", "a.jpg"]
    tar = write_tar([*(TarMember(name, b"x") for name in names), link, pipe])
    losses = index_of(tar).losses
    reasons = dict(zip(losses["name"].to_pylist(), losses["loss"].to_pylist(), strict=True))
    assert {name: reason.split()[0] for name, reason in reasons.items()} == {
        "x/.hidden.jpg": "hidden:",
        "README": "its",
        "b.": "its",
        "a.jpg": "repeated:",
        "link.jpg": "a",
        "pipe.jpg": "no",
    }


def test_a_name_in_doubt_is_a_loss_and_an_archives_label_is_none() -> None:
    label = TarMember("label", kind=b"V")
    wrong = TarMember("././@PaxHeader", b"9 path a\n", b"x")
    whole, doubtful = TarMember("a.jpg", b"a"), TarMember("b.jpg", b"b")
    for_all = TarMember("c.jpg", b"c", global_records={"path": "g.jpg"})
    index = index_of(write_tar([label, whole, wrong, doubtful, for_all]))
    assert index.keys == ["a"]
    assert [
        (r["name"], r["loss"].split(" header")[0]) for r in index.losses.to_pylist()
    ] == [
        ("b.jpg", "its pax"),
        ("g.jpg", "a global pax"),
    ]


def test_damage_and_bytes_behind_the_end_are_losses() -> None:
    tar = write_tar([TarMember("a.jpg", b"a"), TarMember("b.jpg", b"b" * 2000)])
    cut = index_of(tar[:-3000], salvage=True).losses.to_pylist()
    assert [row["name"] for row in cut] == ["a.jpg", "b.jpg"]
    assert "may have had members" in cut[0]["loss"]
    assert "needs 2048 bytes" in cut[1]["loss"]
    (behind,) = index_of(tar + b"junk").losses.to_pylist()
    assert (behind["header_start"], behind["end"]) == (len(tar), len(tar) + 4)


def test_a_shard_without_samples_has_an_index() -> None:
    index = index_of(write_tar([]))
    assert (len(index), index.keys, len(index.losses)) == (0, [], 0)


@given(st.lists(tars.names()), st.integers(0, 3))
def test_names_are_split_at_the_first_dot_of_the_base_name(
    names: list[str], skipped: int
) -> None:
    names = [name.replace("\udcff", "?") for name in names]
    column = pa.array(names, pa.string())[skipped:]
    keys, extensions = split_names(column)
    for name, key, extension in zip(column.to_pylist(), keys, extensions, strict=True):
        match = KEY_AND_EXTENSION.fullmatch(name)
        expected = match.groups() if match else (None, None)
        assert (key.as_py(), extension.as_py()) == expected


@given(made=tars.tars())
@settings(max_examples=20)
def test_a_catalog_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: MadeTar
) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("catalog"))
    index = index_of(made.to_bytes())
    write_catalog(storage, "a.parquet", index, fingerprint="f")
    found = read_catalog(storage, "a.parquet")
    assert found.catalog.equals(index.catalog)
    assert (found.file, found.global_headers) == (index.file, index.global_headers)


def test_what_is_no_catalog_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    storage = MemoryStorage()
    storage.write("a.parquet", b"no table")
    with pytest.raises(TableError):
        read_catalog(storage, "a.parquet")
    with pytest.raises(NotFoundError):
        read_catalog(storage, "b.parquet")


def test_a_shard_on_s3_has_the_same_index(s3_storage: S3Storage) -> None:
    tar = write_tar(TarMember(f"{n:03}.{ext}", bytes(n)) for n in range(99) for ext in "ab")
    s3_storage.write("x/a.tar", tar)
    index = build_index(read_members(s3_storage, "x/a.tar"))
    assert index.catalog.equals(index_of(tar).catalog)
    write_catalog(s3_storage, "x/a.parquet", index, fingerprint="f")
    assert read_catalog(s3_storage, "x/a.parquet").file == s3_storage.stat("x/a.tar")


def test_a_catalog_tells_which_version_of_a_shard_it_is_of() -> None:
    storage = MemoryStorage()
    storage.write("a.tar", make_tar([("1.jpg", b"x"), ("1.txt", b"y")]))
    index = build_index(read_members(storage, "a.tar"))
    write_catalog(storage, "a.catalog", index, fingerprint="f")
    file = read_indexed_file(storage, "a.catalog")
    assert file == storage.stat("a.tar") == read_catalog(storage, "a.catalog").file
    assert storage.read_version(file, 512, 513) == b"x"
    storage.write("a.tar", make_tar([("2.jpg", b"x"), ("2.txt", b"y")]))
    with pytest.raises(StaleError, match="the shard was replaced"):
        storage.read_version(file, 512, 513)
