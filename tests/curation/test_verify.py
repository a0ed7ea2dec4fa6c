"""Verification finds every kind of difference."""

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.errors import InputError, NotFoundError
from curation.release.manifest import read_manifest
from curation.release.shard import hash_file
from curation.storage import LocalStorage, MemoryStorage
from curation.tables import FILTERED, read_table, write_table
from curation.verify import is_release, verify_release, verify_shards
from tests.conftest import Curated
from tests.curation.release.world import (
    numbered,
    released,
    small_recipe,
    write_filtered,
)

TAR, IDX, TABLE = (f"small/00000.{suffix}" for suffix in ("tar", "idx", "parquet"))


@pytest.fixture
def filtered(curated: Curated) -> LocalStorage:
    return LocalStorage(curated.output.root / "filtered")


def cut(storage: LocalStorage) -> None:
    storage.write(TAR, storage.read(TAR)[:-2000])


def swap_keys(storage: LocalStorage) -> None:
    table = read_table(storage, TABLE, FILTERED)
    order = [1, 0, *range(2, table.num_rows)]
    write_table(storage, TABLE, FILTERED, table.take(order), fingerprint="x")


def lose_a_row(storage: LocalStorage) -> None:
    table = read_table(storage, TABLE, FILTERED)
    write_table(storage, TABLE, FILTERED, table.slice(1), fingerprint="x")


def test_what_a_run_wrote_is_right(filtered: LocalStorage) -> None:
    done = verify_shards(filtered)
    assert done.differences == ()
    tars = list(filtered.root.rglob("*.tar"))
    assert done.num_bytes == sum(tar.stat().st_size for tar in tars)


@pytest.mark.parametrize(
    ("harm", "path", "found"),
    [
        (cut, TAR, "byte"),
        (lambda s: s.write(IDX, b"v1.2 0\n"), IDX, "not the index of its tar"),
        (lambda s: s.delete(IDX), IDX, "missing"),
        (lambda s: s.delete(TABLE), TABLE, "missing"),
        (lambda s: s.write(TABLE, b"PAR1"), TABLE, "not a table"),
        (swap_keys, TABLE, "row 0 is of"),
        (lose_a_row, TABLE, "rows, its tar"),
    ],
)
def test_every_difference_is_named_with_its_file(
    filtered: LocalStorage,
    harm: Callable[[LocalStorage], None],
    path: str,
    found: str,
) -> None:
    harm(filtered)
    (difference,) = verify_shards(filtered).differences
    assert difference.path == path
    assert found in difference.found


def as_another(storage: LocalStorage, suffixes: tuple[str, ...], shard: str) -> None:
    for suffix in suffixes:
        storage.copy(f"small/00000.{suffix}", f"small/{shard}.{suffix}")


@pytest.mark.parametrize(
    ("shard", "suffixes", "root"),
    [
        ("00000-old", ("tar", "idx", "parquet"), ""),
        ("train/00009", ("tar",), "small"),
        ("sub/00000", ("idx", "parquet"), ""),
        ("other", ("parquet",), "small"),
    ],
)
def test_what_is_of_a_shard_that_the_folder_is_not_of_is_named(
    filtered: LocalStorage, shard: str, suffixes: tuple[str, ...], root: str
) -> None:
    as_another(filtered, suffixes, shard)
    found = verify_shards(LocalStorage(filtered.root / root)).differences
    assert {Path(root, difference.path) for difference in found} == {
        Path("small", f"{shard}.{suffix}") for suffix in suffixes
    }
    assert all("gone from the source" in difference.found for difference in found)


def test_a_list_of_shards_that_is_none_is_a_difference(filtered: LocalStorage) -> None:
    filtered.write("small/.shards.json", b"{}")
    (difference,) = verify_shards(filtered).differences
    assert difference.path == "small/.shards.json"


def keep_nothing(storage: LocalStorage) -> None:
    table = read_table(storage, TABLE, FILTERED)
    write_table(storage, TABLE, FILTERED, table.slice(0, 0), fingerprint="x")


@pytest.mark.parametrize(
    ("empty", "gone", "path", "found"),
    [
        (True, (TAR, IDX), None, ""),
        (True, (TAR,), IDX, "its tar is missing"),
        (True, (), TABLE, "it has 0 rows"),
        (False, (TAR, IDX), TAR, "it is missing, and its table has"),
        (False, (TAR,), TAR, "it is missing, and its table has"),
    ],
)
def test_a_tar_is_missing_exactly_where_something_was_kept(
    filtered: LocalStorage, empty: bool, gone: tuple[str, ...], path: str | None, found: str
) -> None:
    if empty:
        keep_nothing(filtered)
    for file in gone:
        filtered.delete(file)
    done = verify_shards(filtered)
    assert done.num_shards == 3
    assert [difference.path for difference in done.differences] == ([path] if path else [])
    assert all(found in difference.found for difference in done.differences)


def test_no_tars_are_no_success() -> None:
    with pytest.raises(InputError, match=r"no \.tar file"):
        verify_shards(MemoryStorage("empty"), "nowhere")


@pytest.fixture
def published(tmp_path: Path) -> LocalStorage:
    output = LocalStorage(tmp_path)
    write_filtered(output, "a", numbered(6))
    made = released(output, small_recipe(npy=True), "a")
    return LocalStorage(output.root / made.folder)


def test_a_release_is_right_as_it_was_published(published: LocalStorage) -> None:
    done = verify_release(published)
    assert (done.num_shards, done.num_samples, done.differences) == (2, 6, ())
    assert done.num_bytes == sum(
        file.size for file in published.list_files() if file.path != "manifest.json"
    )


def flip(path: str) -> Callable[[LocalStorage], None]:
    def harm(storage: LocalStorage) -> None:
        data = bytearray(storage.read(path))
        data[len(data) // 2] ^= 1
        storage.write(path, bytes(data))

    return harm


@pytest.mark.parametrize(
    ("harm", "path", "found"),
    [
        (flip("00000.tar"), "00000.tar", "sha256"),
        (flip("00001.idx"), "00001.idx", "sha256"),
        (flip("00001.parquet"), "00001.parquet", "sha256"),
        (flip("img_emb_00000.npy"), "img_emb_00000.npy", "sha256"),
        (flip("README.md"), "README.md", "sha256"),
        (lambda s: s.delete("00000.tar"), "00000.tar", "missing"),
        (lambda s: s.delete("croissant.json"), "croissant.json", "missing"),
        (lambda s: s.write("00002.tar", b""), "00002.tar", "does not know"),
    ],
)
def test_a_changed_file_of_a_release_is_named(
    published: LocalStorage, harm: Callable[[LocalStorage], None], path: str, found: str
) -> None:
    harm(published)
    (difference,) = verify_release(published).differences
    assert difference.path == path
    assert found in difference.found


def flip_bit(storage: LocalStorage, path: str, byte: int, bit: int = 0) -> None:
    """Flip one bit of a file on the disk; its size and its time stay."""
    place = storage.root / path
    before = place.stat()
    data = bytearray(place.read_bytes())
    data[byte] ^= 1 << bit
    place.write_bytes(data)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


SUFFIXES = ("jpg", "txt", "json")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_of_a_filtered_sample_is_named_by_its_file_and_key(
    filtered: LocalStorage, suffix: str
) -> None:
    with tarfile.open(filtered.root / TAR) as tar:
        member = [one for one in tar if one.name.endswith(suffix)][-1]
    flip_bit(filtered, TAR, member.offset_data + member.size // 2, bit=3)
    (difference,) = verify_shards(filtered).differences
    assert difference.path == TAR
    key = member.name.removesuffix(f".{suffix}")
    assert f"the {suffix} of sample {key!r} is damaged" in difference.found


def test_a_flipped_bit_of_a_release_is_named_by_its_file_and_key(
    published: LocalStorage,
) -> None:
    with tarfile.open(published.root / "00001.tar") as tar:
        member = next(one for one in tar if one.name.endswith("jpg"))
    flip_bit(published, "00001.tar", member.offset_data)
    (difference,) = verify_release(published).differences
    key = member.name.removesuffix(".jpg")
    assert f"the jpg of sample {key!r} is damaged" in difference.found


def test_a_sample_that_was_released_wrong_is_found_although_the_tars_hash_is_right(
    published: LocalStorage,
) -> None:
    """As releases of 0.1.0 may be, which compared nothing."""
    data = bytearray(published.read("00000.tar"))
    data[600] ^= 1
    forge(published, "00000.tar", bytes(data))
    (difference,) = verify_release(published).differences
    assert "of sample '000000000' is damaged: sha256" in difference.found


def test_a_whole_output_is_verified_with_its_tables_and_releases(curated: Curated) -> None:
    output = curated.output
    done = verify_shards(output)
    assert done.differences == ()
    tables = [file.path for file in output.list_files(suffix=".parquet")]
    for path in tables:
        flip_bit(output, path, 10)
    found = {difference.path for difference in verify_shards(output).differences}
    assert found >= {*tables}


def forge(storage: LocalStorage, name: str, data: bytes) -> None:
    """Replace a file, and what the manifest says of it."""
    storage.write(name, data)
    made = read_manifest(storage)
    forged = hash_file(storage, name, name)
    shards = tuple(
        replace(shard, files=tuple(forged if f.path == name else f for f in shard.files))
        for shard in made.shards
    )
    storage.write("manifest.json", replace(made, shards=shards).as_bytes())


def test_files_that_disagree_are_found_although_their_hashes_are_right(
    published: LocalStorage,
) -> None:
    vectors = np.load(io.BytesIO(published.read("img_emb_00000.npy")))
    vectors[2, 0] += 1
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    forge(published, "img_emb_00000.npy", buffer.getvalue())
    forge(published, "00001.tar", published.read("00000.tar"))
    found = {d.path: d.found for d in verify_release(published).differences}
    assert found["img_emb_00000.npy"] == "row 2 is not the vector of the table"
    assert found["00001.tar"] == "it has 4 samples, the manifest promises 2"
    assert "not the index" in found["00001.idx"]
    assert found["00001.parquet"] == "it has 2 rows, its tar 4 samples"


def test_a_folder_without_manifest_is_no_release(published: LocalStorage) -> None:
    assert is_release(published)
    published.delete("manifest.json")
    assert not is_release(published)
    with pytest.raises(NotFoundError):
        verify_release(published)
