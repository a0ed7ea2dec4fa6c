"""What is wrong with shards, read from what was made of them."""

import gzip
import io
import tarfile
from collections.abc import Mapping

import pyarrow as pa
import pytest

from curation.artifacts import Artifacts
from curation.image_decoding import JUDGED_BY_PILLOW
from curation.index import build_index, index_without_samples, write_catalog
from curation.storage import MemoryStorage
from curation.tables import EMBEDDINGS, with_about, write_table
from curation.tar import read_members
from curation.testing.image_shards import make_shard, make_tar
from curation.testing.pictures import encode, make_picture
from curation.troubles import NO_SAMPLES, Trouble, catalog_troubles, find_troubles

ARTIFACTS = Artifacts("index", "encoder", "captions", "classifiers", "recipe")
SHARD = make_shard({f"{n:03}": encode(make_picture(seed=n), "JPEG") for n in range(4)})


def linked() -> bytes:
    """Write a tar whose only members are links to images elsewhere."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name in ("a.jpg", "b.jpg"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"/elsewhere/{name}"
            tar.addfile(link)
    return sink.getvalue()


UNREADABLE = {
    "gzip": (gzip.compress(SHARD), "compressed with gzip"),
    "page": (b"<!DOCTYPE html><h1>404</h1>" * 99, "HTML"),
    "nothing": (b"", "the file is empty"),
    "cut in the first member": (SHARD[:700], "cut off"),
    "cut between headers": (SHARD[:512], "cut off"),
    "noise": (bytes(range(256)) * 64, "no sample could be read"),
    "links": (linked(), "2 members belong to no sample: a link"),
    "names without extensions": (make_tar([("a", b"x"), ("b", b"y")]), "no extension"),
    "hidden": (make_tar([("._a.jpg", b"x"), (".DS_Store.txt", b"y")]), "hidden"),
}


def trouble_of(tar: bytes, on_damage: str) -> list[Trouble]:
    storage = MemoryStorage()
    storage.write("s.tar", tar)
    members = read_members(storage, "s.tar", on_damage="salvage")
    use = build_index
    if members.damage and on_damage == "quarantine":
        use = index_without_samples
    write_catalog(storage, "s.parquet", use(members), fingerprint="")
    return catalog_troubles(storage, "s.parquet", "s")


@pytest.mark.parametrize("on_damage", ["quarantine", "salvage"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_tar_of_which_nothing_can_be_read_is_lost(kind: str, on_damage: str) -> None:
    tar, reason = UNREADABLE[kind]
    found = trouble_of(tar, on_damage)
    assert {trouble.severity for trouble in found} == {"lost"}
    assert reason in " ".join(trouble.what for trouble in found)


@pytest.mark.parametrize("stop", range(512, len(SHARD.rstrip(b"\0")), 2048))
def test_a_tar_that_was_cut_anywhere_is_lost_in_whole_or_in_part(stop: int) -> None:
    (whole,) = trouble_of(SHARD[:stop], "quarantine")
    assert whole.severity == "lost" and "no sample could be read" in whole.what
    salvaged = trouble_of(SHARD[:stop], "salvage")
    assert salvaged[0].severity == "lost"
    assert "read" in salvaged[0].what and "cut off" in salvaged[0].what


def test_what_was_salvaged_is_counted_beside_what_was_not() -> None:
    end = SHARD.index(b"003.jpg")
    found = trouble_of(SHARD[:end] + b"!" * 2048, "salvage")[0]
    assert found.what.startswith(f"only 2 samples could be read, nothing from byte {end:,}")


@pytest.mark.parametrize(
    ("tar", "what"),
    [
        (SHARD + b"signature", "9 bytes after the end"),
        (make_tar([("a.jpg", b"x"), ("README", b"y")]), "1 members belong to no sample"),
        (make_tar([("a.jpg", b"x"), ("a.jpg", b"y")]), "repeated"),
    ],
)
def test_what_may_be_meant_is_a_note(tar: bytes, what: str) -> None:
    (found,) = trouble_of(tar, "quarantine")
    assert found.severity == "note"
    assert what in found.what


@pytest.mark.parametrize("tar", [bytes(1024), bytes(10240), make_tar([])])
def test_a_whole_tar_without_samples_is_warned_of(tar: bytes) -> None:
    (found,) = trouble_of(tar, "quarantine")
    assert (found.severity, found.what) == ("warning", NO_SAMPLES)


@pytest.mark.parametrize(
    ("tar", "severity", "count"),
    [(SHARD, "warning", 4), (make_tar([]), "lost", 0), (b"", "lost", 0)],
)
def test_room_that_a_download_left_empty_is_told(
    tar: bytes, severity: str, count: int
) -> None:
    """Everything that reads tars takes such a one for whole."""
    (found,) = trouble_of(tar + bytes(5 << 20), "quarantine")
    assert found.severity == severity
    assert f"bytes of zeros follow {count} samples" in found.what


def test_a_whole_tar_has_no_trouble() -> None:
    assert trouble_of(SHARD + bytes(3 << 20), "quarantine") == []  # a tape's record
    assert trouble_of(SHARD, "quarantine") == []


def make(
    storage: MemoryStorage,
    shard: str,
    tar: bytes,
    errors: list[str | None],
    about: Mapping[str, str] = JUDGED_BY_PILLOW,
) -> None:
    """Write a tar, its catalog, and embeddings with these errors."""
    storage.write(f"{shard}.tar", tar)
    index = build_index(read_members(storage, f"{shard}.tar", on_damage="salvage"))
    write_catalog(storage, ARTIFACTS.catalog(shard), index, fingerprint="")
    schema = pa.schema(EMBEDDINGS.columns)
    rows = [{"key": str(n), "error": error} for n, error in enumerate(errors)]
    table = with_about(pa.Table.from_pylist(rows, schema=schema), **about)
    write_table(storage, ARTIFACTS.embeddings(shard), EMBEDDINGS, table, fingerprint="")


def test_shards_are_told_with_the_worst_first_and_those_not_made_are_not() -> None:
    storage = MemoryStorage()
    make(storage, "empty", make_tar([]), [])
    make(storage, "good", SHARD, [None] * 9 + ["bad"])
    make(storage, "some", SHARD, [None] * 8 + ["bad"] * 2)
    make(storage, "none", SHARD, ["no image"] * 4)
    make(storage, "cut", SHARD[:700], [])
    make(storage, "replaced", SHARD[:700], [])
    storage.write("replaced.tar", SHARD)
    storage.write("new.tar", SHARD)
    tars = {file.path[:-4]: file for file in storage.list_files(suffix=".tar")}
    found = find_troubles(storage, ARTIFACTS, tars, 0.1)
    told = [(trouble.severity, trouble.shard) for trouble in found]
    assert told == [
        ("lost", "cut"),
        ("lost", "none"),
        ("warning", "empty"),
        ("warning", "some"),
    ]
    assert "2 of 10 samples are quarantined (20.0%" in found[3].what
    assert [t.shard for t in find_troubles(storage, ARTIFACTS, tars, 1)] == ["cut", "empty"]


def test_a_catalog_that_can_not_be_read_is_told_and_costs_itself_alone() -> None:
    storage = MemoryStorage()
    make(storage, "a", SHARD, [])
    make(storage, "b", make_tar([]), [])
    storage.write(ARTIFACTS.catalog("a"), b"no parquet")
    tars = {file.path[:-4]: file for file in storage.list_files(suffix=".tar")}
    found = find_troubles(storage, ARTIFACTS, tars, 0.1)
    assert [(t.shard, t.severity) for t in found] == [("a", "lost"), ("b", "warning")]


def test_vectors_of_before_pillows_verdict_counted_are_told() -> None:
    storage = MemoryStorage()
    make(storage, "now", SHARD, [None] * 9)
    make(storage, "old", SHARD, [None] * 9 + ["no image"], {})
    make(storage, "old and empty", SHARD, [], {})
    tars = {file.path[:-4]: file for file in storage.list_files(suffix=".tar")}
    (found,) = find_troubles(storage, ARTIFACTS, tars, 0.1)
    assert (found.shard, found.severity) == ("old", "note")
    assert "damaged" in found.what and "embeddings/" in found.advice
