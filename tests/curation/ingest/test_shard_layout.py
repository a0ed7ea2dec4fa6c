"""Keys of new shards, against img2dataset's formula; their tars, read by others."""

import math
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.ingest.shard_layout import NewSample, ShardLayout, write_shard
from curation.key_digits import split_digits
from curation.storage import ByteRange, LocalStorage
from curation.testing.readers import read_with_webdataset


@given(st.integers(2, 20_000), st.lists(st.integers(0, 10**7), min_size=1))
def test_keys_are_those_of_img2dataset(samples_per_shard: int, samples: list[int]) -> None:
    layout = ShardLayout(samples_per_shard)
    width = math.ceil(math.log10(samples_per_shard))
    expected = [
        f"{10**width * (n // samples_per_shard) + n % samples_per_shard:0{5 + width}d}"
        for n in samples
    ]
    assert [layout.key(number) for number in samples] == expected


@given(st.integers(1, 200), st.integers(1, 600))
def test_every_sample_has_a_place_and_a_key_of_its_own(
    samples_per_shard: int, num_samples: int
) -> None:
    layout = ShardLayout(samples_per_shard)
    shards = [
        layout.rows(number, num_samples) for number in range(layout.num_shards(num_samples))
    ]
    assert [sample for rows in shards for sample in rows] == list(range(num_samples))
    keys = [layout.key(sample) for sample in range(num_samples)]
    assert [layout.sample(key) for key in keys] == list(range(num_samples))
    assert keys == sorted(set(keys))
    width = len(keys[0]) - 5
    found, rows = split_digits(pa.array(keys), "here", index_width=width)
    assert np.array_equal(found, np.arange(num_samples) // samples_per_shard)
    assert np.array_equal(rows, np.arange(num_samples) % samples_per_shard)


def test_what_has_no_names_is_refused() -> None:
    assert ShardLayout(1).num_shards(100_000) == 100_000
    with pytest.raises(InputError, match="larger samples_per_shard"):
        ShardLayout(1).num_shards(100_001)
    with pytest.raises(InputError, match="at least 1"):
        ShardLayout(0)


def test_a_shard_is_read_by_tarfile_and_webdataset(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("elsewhere", b"-image-")
    part = ByteRange(storage, "elsewhere", 1, 6)
    samples = [
        NewSample("000000", (("jpg", part), ("txt", b"a caption"), ("json", b""))),
        NewSample("000001", (("png", b"x" * 512),)),
    ]
    write_shard(storage, "00000.tar", samples)
    with tarfile.open(tmp_path / "00000.tar") as tar:
        members = tar.getmembers()
    assert [(m.name, m.size, m.mtime, m.mode, m.uid) for m in members] == [
        ("000000.jpg", 5, 0, 0o644, 0),
        ("000000.txt", 9, 0, 0o644, 0),
        ("000000.json", 0, 0, 0o644, 0),
        ("000001.png", 512, 0, 0o644, 0),
    ]
    assert read_with_webdataset(tmp_path / "00000.tar") == {
        "000000": {"jpg": b"image", "txt": b"a caption", "json": b""},
        "000001": {"png": b"x" * 512},
    }
