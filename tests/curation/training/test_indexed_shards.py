"""Samples by number, against tarfile."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from curation.errors import InputError
from curation.testing.image_embedding_folders import PER_SHARD, SHARDS, save_tars
from curation.testing.image_shards import make_tar
from curation.training.indexed_shards import index_shards
from curation.training.shard_urls import open_shards


def test_components_lie_where_tarfile_finds_them(tmp_path: Path) -> None:
    save_tars(tmp_path, broken={5: {"txt": None}})
    indexed = index_shards(open_shards(str(tmp_path)), {"image": ("jpg",), "txt": ("txt",)})
    expected: dict[str, list[tuple[int, int]]] = {"jpg": [], "txt": []}
    for path in sorted(tmp_path.iterdir()):
        with tarfile.open(path) as tar:
            for member in tar:
                extension = member.name.partition(".")[2]
                if extension in expected:
                    expected[extension].append((member.offset_data, member.size))
    expected["txt"].insert(5, (-1, 0))
    for name, extension in (("image", "jpg"), ("txt", "txt")):
        places = indexed.places[name]
        found = zip(places.starts.tolist(), places.sizes.tolist(), strict=True)
        assert list(found) == expected[extension]
    assert indexed.counts == (PER_SHARD,) * SHARDS
    assert indexed.shards_of(np.array([0, 19, 20, 59])).tolist() == [0, 0, 1, 2]
    assert indexed.name(21).endswith("0001.tar: sample 0001001")


def test_the_first_of_the_wanted_extensions_counts_in_any_case(tmp_path: Path) -> None:
    tar = make_tar([("a.PNG", b"png"), ("a.jpg", b"jpg"), ("b.PNG", b"png")])
    (tmp_path / "0.tar").write_bytes(tar)
    indexed = index_shards(open_shards(f"{tmp_path}/0.tar"), {"image": ("jpg", "png")})
    found = indexed.places["image"].starts
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        assert found.tolist() == [
            file.getmember(name).offset_data for name in ("a.jpg", "b.PNG")
        ]


def test_what_is_no_sample_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "0.tar").write_bytes(make_tar([("a.jpg", b"x"), ("._a.jpg", b"x")]))
    index_shards(open_shards(f"{tmp_path}/0.tar"), {"image": ("jpg",)})
    assert "1 members belong to no sample: ._a.jpg (hidden" in caplog.text


def test_shards_without_samples_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(make_tar([]))
    with pytest.raises(InputError, match="no samples"):
        index_shards(open_shards(f"{tmp_path}/0.tar"), {"image": ("jpg",)})
