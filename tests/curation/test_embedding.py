"""The embeddings table has a row for every sample, and says why where it has no vector."""

import hashlib
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from curation.embedders.base import Embedder
from curation.embedding import CORRUPTION, embed_samples
from curation.errors import MOST_REASON, InputError
from curation.fingerprint import Json
from curation.image_loaders.base import LoaderSettings
from curation.image_loaders.nvimgcodec import NvimgcodecImageLoader
from curation.image_transform import ImageTransform
from curation.recipe import ImageSettings, TextSettings
from curation.samples import Component, Sample
from curation.storage import MemoryStorage
from curation.tables import EMBEDDING, EMBEDDINGS, embedding_matrix, write_table
from curation.testing.image_shards import make_shard, make_tar, tar_samples
from curation.testing.pictures import (
    bomb_png,
    damaged_pictures,
    encode,
    encoded_pictures,
    make_picture,
)

TRANSFORM = ImageTransform(height=32, width=32, resize=(32, 32), rule="squash")
IMAGES = ImageSettings(max_pixels=1_000_000)


class ColourEmbedder(Embedder):
    """Colours of 8 x 8 tiles: a real embedding, and no model to load."""

    transform = TRANSFORM
    dim = 192
    device = "cpu"

    def on(self, device: str) -> "ColourEmbedder":
        return ColourEmbedder()

    def encoder(self) -> dict[str, Json]:
        return {"kind": "colours"}

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        tiles = pixels.float().unflatten(1, (8, 4)).unflatten(3, (8, 4))
        return tiles.mean(dim=(2, 4)).flatten(1) + 1


def embed(tar: bytes, **options: object) -> pa.Table:
    settings = LoaderSettings(batch_size=8, max_pixels=IMAGES.max_pixels)
    loader = NvimgcodecImageLoader(TRANSFORM, settings)
    return embed_samples(tar_samples(tar), loader, ColourEmbedder(), IMAGES, **options)


def test_there_is_one_row_per_sample_in_order() -> None:
    pictures = {f"k{i}": encode(make_picture(seed=i), "PNG") for i in range(19)}
    table = embed(make_shard(pictures, "png"))
    assert table["key"].to_pylist() == list(pictures)
    assert table["error"].null_count == 19
    vectors, valid = embedding_matrix(table[EMBEDDING])
    assert valid.all()
    np.testing.assert_allclose(
        np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3
    )


def test_the_vector_is_that_of_the_image() -> None:
    picture = make_picture(32, 32)
    table = embed(make_shard({"a": encode(picture, "PNG")}, "png"))
    tiles = np.asarray(picture).astype(float).reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)) + 1
    vectors, _ = embedding_matrix(table[EMBEDDING])
    expected = tiles.ravel() / np.linalg.norm(tiles)
    np.testing.assert_allclose(vectors[0], expected, atol=1e-3)


def test_a_shard_without_samples_is_an_empty_table() -> None:
    table = embed(make_tar([]))
    assert table.num_rows == 0
    assert table[EMBEDDING].type == pa.binary(2 * 192)


def test_the_table_can_be_written() -> None:
    storage = MemoryStorage()
    for tar in (make_tar([]), make_shard({"a": b"", "b": encode(make_picture(), "PNG")})):
        write_table(storage, "t.parquet", EMBEDDINGS, embed(tar), fingerprint="f")


def test_where_the_image_lies_and_what_it_is_are_recorded() -> None:
    data = encode(make_picture(120, 90), "WEBP")
    tar = make_shard({"a": encode(make_picture(), "PNG"), "b": data}, "jpg")
    row = embed(tar).to_pylist()[1]
    assert tar[row["image_start"] :][: row["image_bytes"]] == data
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert (row["format"], row["width"], row["height"]) == ("webp", 120, 90)
    assert row["image_extension"] == "jpg"
    assert row["caption"] == "a picture of b"
    assert row["metadata"] == '{"key": "b"}'
    assert row["sharpness"] > 0
    assert 0 < row["brightness"] < 1
    assert 0 < row["entropy"] <= 8


@pytest.mark.parametrize(
    ("data", "reason", "size"),
    [
        (b"", "empty", (None, None)),
        (b"<!DOCTYPE html>", "no image", (None, None)),
        (encode(make_picture(), "JPEG")[:-200], "truncated", (80, 60)),
        (bomb_png(5000, 5000), "too many pixels", (5000, 5000)),
    ],
    ids=["empty", "page", "truncated", "bomb"],
)
def test_an_image_that_cannot_be_decoded_is_a_row_with_a_reason(
    data: bytes, reason: str, size: tuple[int | None, int | None]
) -> None:
    good = encode(make_picture(), "PNG")
    first, bad, last = embed(make_shard({"a": good, "b": data, "c": good})).to_pylist()
    assert reason in bad["error"]
    assert bad[EMBEDDING] is None
    assert (bad["width"], bad["height"]) == size
    assert bad["image_bytes"] == len(data)
    assert bad["sha256"] == hashlib.sha256(data).hexdigest()
    assert bad["caption"] == "a picture of b"
    assert bad["sharpness"] is None
    assert first[EMBEDDING] == last[EMBEDDING]


def test_a_sample_without_an_image_is_a_row_that_says_what_it_has() -> None:
    tar = make_tar([("a.txt", b"alone"), ("b.png", encode(make_picture(), "PNG"))])
    row, other = embed(tar).to_pylist()
    assert row["error"] == "no image component: the sample has txt"
    assert row["caption"] == "alone"
    assert row[EMBEDDING] is None
    assert other["error"] is None
    assert other["caption"] is None


def test_a_reason_has_a_bounded_length() -> None:
    table = embed(make_tar([(f"a.part{n}", b"") for n in range(500)]))
    (reason,) = table["error"].to_pylist()
    assert reason.startswith("no image component: the sample has part0, part1")
    assert len(reason) <= MOST_REASON


@pytest.mark.parametrize("extension", ["jpg", "JPG", "Jpeg", "PNG"])
def test_the_image_component_is_found_in_any_case(extension: str) -> None:
    tar = make_shard({"a": encode(make_picture(), "PNG")}, extension)
    assert embed(tar)["image_extension"].to_pylist() == [extension]


def test_of_several_images_the_setting_names_the_first() -> None:
    white, black = (encode(make_picture(seed=seed), "PNG") for seed in (1, 2))
    tar = make_tar([("a.png", white), ("a.jpg", black)])
    assert embed(tar)["image_extension"].to_pylist() == ["jpg"]


def test_a_caption_that_is_no_utf8_keeps_what_can_be_read() -> None:
    tar = make_tar([("a.png", encode(make_picture(), "PNG")), ("a.txt", b"caf\xe9 \xff!")])
    row = embed(tar).to_pylist()[0]
    assert row["caption"] == "caf� �!"
    assert row["error"] is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_texts_are_read_as_their_byte_order_mark_says(encoding: str) -> None:
    image = encode(make_picture(), "PNG")
    caption, metadata = "ein Bär 🐻", '{"a": "ü"}'
    texts = [("a.TXT", caption.encode(encoding)), ("a.json", metadata.encode(encoding))]
    row = embed(make_tar([("a.png", image), *texts])).to_pylist()[0]
    assert (row["caption"], row["metadata"]) == (caption, metadata)


def test_captions_and_metadata_may_have_any_extension() -> None:
    image = encode(make_picture(), "PNG")
    tar = make_tar(
        [
            ("a.png", image),
            ("a.txt", b"second"),
            ("a.Outputs.txt", b"first"),
            ("a.meta.json", b"{}"),
            ("a.json", b"[]"),
            ("b.png", image),
            ("b.txt", b"only"),
            ("b.json", b"no metadata"),
        ]
    )
    texts = TextSettings(
        caption_extensions=("outputs.txt", "txt"), metadata_extensions=("meta.json",)
    )
    table = embed(tar, texts=texts)
    assert table["caption"].to_pylist() == ["first", "only"]
    assert table["metadata"].to_pylist() == ["{}", None]


def test_good_images_have_the_same_vectors_among_damaged_ones() -> None:
    good = list(encoded_pictures().values())
    damaged = [data for _, data in damaged_pictures(300)]
    images = {f"k{i}": good[i % len(good)] if i % 3 else damaged.pop() for i in range(400)}
    clean = {f"k{i}": good[i % len(good)] for i in range(400)}
    found, expected = embed(make_shard(images)), embed(make_shard(clean))
    assert found.num_rows == 400
    for left, right in zip(found.to_pylist(), expected.to_pylist(), strict=True):
        if int(left["key"][1:]) % 3:
            assert left[EMBEDDING] == right[EMBEDDING]
            assert left["sharpness"] == right["sharpness"]
        assert (left[EMBEDDING] is None) == (left["error"] is not None)


def refused_by_pillow() -> bytes:
    """Make a JPEG that nvImageCodec gives pixels for, and Pillow none."""
    picture = encode(make_picture(160, 120), "JPEG", quality=90)
    return picture[:4096] + b"\xff\x37" + picture[4098:]


@pytest.mark.parametrize("what", ["quarantine", "keep"])
def test_what_is_found_in_a_corrupt_image_is_on_record_whatever_becomes_of_it(
    what: Literal["quarantine", "keep"],
) -> None:
    images = IMAGES.model_copy(update={"on_corruption": what})
    good = encode(make_picture(), "JPEG")
    tar = make_shard({"good": good, "bad": refused_by_pillow()})
    loader = NvimgcodecImageLoader(TRANSFORM, LoaderSettings(8, on_corruption=what))
    table = embed_samples(tar_samples(tar), loader, ColourEmbedder(), images)
    write_table(MemoryStorage(), "t.parquet", EMBEDDINGS, table, fingerprint="f")
    reason = "can't be decoded: broken data stream when reading image file"
    kept = what == "keep"
    assert table["error"].to_pylist() == [None, None if kept else reason]
    assert embedding_matrix(table[EMBEDDING])[1].tolist() == [True, kept]
    if kept:
        assert table[CORRUPTION].to_pylist() == [None, reason]
    else:
        assert CORRUPTION not in table.column_names


def test_a_vector_that_is_not_finite_is_quarantined() -> None:
    class Overflowing(ColourEmbedder):
        def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
            vectors = super().embed_pixels(pixels)
            vectors[0, 0] = float("inf")
            return vectors

    picture = encode(make_picture(), "PNG")
    loader = NvimgcodecImageLoader(TRANSFORM, LoaderSettings(batch_size=2))
    samples = tar_samples(make_shard({"a": picture, "b": picture}))
    table = embed_samples(samples, loader, Overflowing(), IMAGES)
    assert "no finite vector" in table["error"][0].as_py()
    assert table[EMBEDDING].is_valid().to_pylist() == [False, True]


def test_samples_are_taken_as_they_are_needed() -> None:
    """A shard's bytes are never in memory at once."""
    taken = []

    class Watching(ColourEmbedder):
        def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
            taken.append(len(started))
            return super().embed_pixels(pixels)

    started = []
    picture = encode(make_picture(), "PNG")
    part = (Component("png", 0, len(picture)),)

    def samples() -> object:
        for i in range(40):
            started.append(i)
            yield Sample(str(i), part, {"png": picture})

    loader = NvimgcodecImageLoader(TRANSFORM, LoaderSettings(batch_size=8))
    embed_samples(samples(), loader, Watching(), IMAGES)  # type: ignore[arg-type]
    assert sorted(set(taken)) == [8, 16, 24, 32, 40]


def test_perceptual_hashes_are_of_images_that_have_features() -> None:
    plain = encode(Image.new("RGB", (64, 64), "gray"), "PNG")
    tar = make_shard({"a": encode(make_picture(), "PNG"), "b": plain, "c": b"none"})
    hashes = embed(tar)["perceptual_hash"].to_pylist()
    assert [None if found is None else len(found) for found in hashes] == [32, None, None]


def test_files_of_the_same_pixels_have_the_same_hash_if_asked_for() -> None:
    picture, other = make_picture(seed=1), make_picture(seed=2)
    wide = Image.new("RGB", (60, 30), "white"), Image.new("RGB", (30, 60), "white")
    files = {
        "png": encode(picture, "PNG"),
        "packed": encode(picture, "PNG", compress_level=1),
        "webp": encode(picture, "WEBP", lossless=True),
        "other": encode(other, "PNG"),
        "wide": encode(wide[0], "PNG"),
        "tall": encode(wide[1], "PNG"),
        "garbage": b"garbage",
    }
    tar = make_shard(files, "png")
    assert embed(tar)["pixel_sha256"].null_count == len(files)
    hashing = IMAGES.model_copy(update={"hash_pixels": True})
    settings = LoaderSettings(batch_size=4, max_pixels=IMAGES.max_pixels)
    loader = NvimgcodecImageLoader(TRANSFORM, settings)
    table = embed_samples(tar_samples(tar), loader, ColourEmbedder(), hashing)
    found = dict(zip(files, table["pixel_sha256"].to_pylist(), strict=True))
    assert found["png"] == found["packed"] == found["webp"]
    assert found["garbage"] is None
    assert len(set(found.values())) == len(files) - 2
    assert len(set(table["sha256"].to_pylist())) == len(files)


def test_an_error_of_the_loader_passes_through_the_thread_that_reads_ahead() -> None:
    class OnAnotherDevice(ColourEmbedder):
        device = "cuda"  # only its name: batches are read ahead

    def samples() -> object:
        yield next(tar_samples(make_shard({"a": encode(make_picture(), "PNG")})))
        raise ZeroDivisionError

    loader = NvimgcodecImageLoader(TRANSFORM, LoaderSettings(batch_size=1))
    with pytest.raises(ZeroDivisionError):
        embed_samples(samples(), loader, OnAnotherDevice(), IMAGES)  # type: ignore[arg-type]


def test_a_loader_for_another_transform_is_refused() -> None:
    other = replace(TRANSFORM, height=24, width=24)
    loader = NvimgcodecImageLoader(other, LoaderSettings())
    with pytest.raises(InputError, match=r"made for .*height=24"):
        embed_samples([], loader, ColourEmbedder(), IMAGES)


def test_reading_ahead_changes_nothing() -> None:
    class OnAnotherDevice(ColourEmbedder):
        device = "cuda"

    tar = make_shard({f"k{i}": encode(make_picture(seed=i), "PNG") for i in range(9)})
    loader = NvimgcodecImageLoader(TRANSFORM, replace(LoaderSettings(), batch_size=2))
    found = embed_samples(tar_samples(tar), loader, OnAnotherDevice(), IMAGES)
    assert found.equals(embed(tar))
