"""Every bit of a sample's files is on record, from the raw tar to the release."""

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import CurationError
from curation.index import ShardIndex, build_index, read_catalog
from curation.reshard import reshard
from curation.sample_digests import (
    COMPONENT_CRC32,
    Comparison,
    Recorded,
    compare_samples,
    comparing,
    part_crcs,
    read_tar_digest,
    recorded_components,
)
from curation.storage import LocalStorage, S3Storage
from curation.storage.base import Buffer
from curation.tables import EMBEDDINGS, FILTERED, read_table, table_about, write_table
from curation.tar import read_members
from curation.testing.image_shards import make_tar
from curation.verify import verify_release, verify_shards
from jobs.curate import curate
from jobs.release import make_release
from resources.progress import LineProgress
from tests.conftest import Curated

TAR = "filtered/small/00000.tar"


def flip(place: Path, byte: int, bit: int) -> None:
    """Flip one bit on the disk; the file's size and time stay."""
    before = place.stat()
    with open(place, "r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def members(place: Path, suffix: str = "") -> list[tarfile.TarInfo]:
    with tarfile.open(place) as tar:
        return [one for one in tar if one.isfile() and one.name.endswith(suffix)]


@pytest.mark.parametrize("kind", ["sha256", "crc32"])
def test_any_flipped_bit_of_a_component_is_found_and_none_elsewhere(
    tmp_path: Path, kind: str
) -> None:
    """Expected values are sha256sum's and gzip's, by hashlib and zlib of the members."""
    random = Random(kind)
    sizes = (1, 0, 511, 513, 3 << 20)  # the last is longer than what is read at once
    files = [(f"{n:03d}.jpg", random.randbytes(size)) for n, size in enumerate(sizes)]
    storage = LocalStorage(tmp_path)
    storage.write("x.tar", make_tar(files))
    place = tmp_path / "x.tar"
    recorded = [
        Recorded(
            member.offset_data,
            member.size,
            *member.name.split("."),
            sha256=hashlib.sha256(data).hexdigest() if kind == "sha256" else None,
            crc32=zlib.crc32(data) if kind == "crc32" else None,
        )
        for member, (_, data) in zip(members(place), files, strict=True)
    ]
    whole = read_tar_digest(storage, "x.tar", recorded)
    assert whole.changed == ()
    assert whole.sha256 == hashlib.sha256(place.read_bytes()).hexdigest()
    assert whole.num_bytes == place.stat().st_size
    for member in members(place):
        if not member.size:
            continue
        for byte in (0, member.size - 1, random.randrange(member.size)):
            bit = random.randrange(8)
            flip(place, member.offset_data + byte, bit)
            (found,) = read_tar_digest(storage, "x.tar", recorded).changed
            assert f"{found.key}.{found.extension}" == member.name
            flip(place, member.offset_data + byte, bit)
    flip(place, members(place)[0].offset_data + 100, 0)  # padding
    assert read_tar_digest(storage, "x.tar", recorded).changed == ()


def test_a_tar_that_ends_early_is_no_good_one(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("x.tar", b"x" * 100)
    recorded = [Recorded(50, 100, "key", "jpg", None, 0)]
    (found,) = read_tar_digest(storage, "x.tar", recorded).changed
    assert "ends before" in found.found


def test_what_a_table_lacks_is_on_record_of_none(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("x.tar", make_tar([("a.jpg", b"image"), ("a.txt", b"text")]))
    index = build_index(read_members(storage, "x.tar"))
    assert recorded_components(index, *part_crcs(pa.table({"key": ["a"]}))) == []


def test_every_component_of_a_filtered_shard_is_on_record(curated: Curated) -> None:
    table = read_table(curated.output, TAR.replace(".tar", ".parquet"), FILTERED)
    index = build_index(read_members(curated.output, TAR))
    recorded = recorded_components(index, *part_crcs(table))
    assert COMPONENT_CRC32 in table.column_names
    assert len(recorded) == len(index.components)


@pytest.mark.parametrize("suffix", ["jpg", "json"])
def test_a_flipped_bit_of_a_filtered_tar_stops_the_release_and_is_told_by_verify(
    curated: Curated, suffix: str
) -> None:
    place = curated.output.root / TAR
    member = members(place, suffix)[0]
    flip(place, member.offset_data + member.size // 2, 5)
    key = member.name.removesuffix(f".{suffix}")
    told = f"00000.tar: the {suffix} of sample {key!r} is damaged"
    with pytest.raises(CurationError, match=told):
        make_release(curated.recipe, LineProgress(print))
    assert not list(curated.output.list_files("releases", "manifest.json"))
    (difference,) = verify_shards(curated.output).differences
    assert difference.path == TAR
    assert repr(key) in difference.found
    # made again as the message says, it is released
    for file in place.parent.glob("00000.*"):
        file.unlink()
    curate(curated.recipe, LineProgress(print))
    made = make_release(curated.recipe, LineProgress(print))
    assert made is not None
    assert verify_release(curated.output, made.folder).differences == ()


@pytest.mark.parametrize("suffix", ["jpg", "txt"])
def test_a_flipped_bit_of_a_raw_tar_costs_its_filtered_shard_and_is_named(
    curated: Curated, suffix: str
) -> None:
    place = curated.source.root / "00000.tar"
    kept = members(curated.output.root / TAR, suffix)[0].name
    (member,) = (one for one in members(place) if one.name == kept)
    flip(place, member.offset_data + member.size // 2, 5)
    for file in (curated.output.root / TAR).parent.glob("00000.*"):
        file.unlink()
    result = curate(curated.recipe, LineProgress(print))
    key = kept.removesuffix(f".{suffix}")
    told = f"00000.tar: the {suffix} of sample {key!r} is damaged"
    assert told in result.failed.pop("00000")
    assert result.failed == {}
    assert not (curated.output.root / TAR).exists()
    flip(place, member.offset_data + member.size // 2, 5)
    assert curate(curated.recipe, LineProgress(print)).failed == {}
    assert verify_shards(curated.output).differences == ()


@pytest.mark.parametrize("suffix", ["jpg", "txt"])
def test_what_goes_to_a_server_is_compared_as_it_goes_by(
    curated: Curated, s3_storage: S3Storage, suffix: str
) -> None:
    """As it is for a local folder, from which the tar is read again."""
    artifacts, texts = curated.artifacts, curated.recipe.texts
    raw = read_catalog(curated.output, artifacts.catalog("00000"))
    known = read_table(curated.output, artifacts.embeddings("00000"), EMBEDDINGS)
    kept = np.arange(len(raw)) % 2 == 0
    rows = known.filter(pa.array(kept))
    seen: list[Comparison] = []

    def watch(index: ShardIndex) -> Callable[[Buffer], None]:
        seen.append(Comparison(texts))
        return comparing(seen[-1], index, rows)

    made = reshard(curated.source, raw, kept, s3_storage, "a.tar", watch)
    assert made == build_index(read_members(s3_storage, "a.tar"))
    again = compare_samples(s3_storage, "a.tar", made, rows, texts)
    assert seen[0].changed == again.changed == []
    assert seen[0].crcs.equals(again.crcs)
    assert len(again.crcs) == kept.sum()
    place = curated.source.root / "00000.tar"
    good = rows.filter(rows["error"].is_null().combine_chunks())
    name = f"{good['key'][0]}.{suffix}"
    (member,) = (one for one in members(place) if one.name == name)
    flip(place, member.offset_data + member.size // 2, 5)
    reshard(curated.source, raw, kept, s3_storage, "b.tar", watch)
    (changed,) = seen[1].changed
    assert f"{changed.key}.{changed.extension}" == member.name


def test_releases_are_the_same_whether_checksums_are_on_record_or_not(
    curated: Curated,
) -> None:
    """Filtered shards of 0.1.0 have none; their images are compared all the same."""
    first = make_release(curated.recipe, LineProgress(print))
    assert first is not None
    for path in (f.path for f in curated.output.list_files("filtered", ".parquet")):
        table = read_table(curated.output, path, FILTERED)
        about = table_about(table)
        old = table.drop_columns([COMPONENT_CRC32])
        write_table(curated.output, path, FILTERED, old, fingerprint=about["fingerprint"])
    second = make_release(curated.recipe, LineProgress(print), anew=True, as_is=True)
    assert second is None  # it is what the last one is
    shutil.rmtree(curated.output.root / first.folder)
    second = make_release(curated.recipe, LineProgress(print), as_is=True)
    assert second is not None
    assert second.shards == first.shards
    place = curated.output.root / TAR
    flip(place, members(place, "jpg")[0].offset_data, 0)
    (difference,) = verify_shards(curated.output, "filtered").differences
    assert "is damaged: sha256" in difference.found
