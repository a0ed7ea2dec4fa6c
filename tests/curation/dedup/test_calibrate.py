"""Pairs are counted as brute force counts them, in bands and over edits."""

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.dedup.calibrate import (
    BOUNDS,
    THRESHOLDS,
    measure_edits,
    most_lenient,
    similarity_bands,
)
from curation.dedup.centroids import CellSettings
from curation.dedup.state import current_ordinals
from curation.errors import InputError
from curation.storage import MemoryStorage
from curation.tables import EMBEDDING, embedding_column
from tests.curation.dedup.brute_force import cosines
from tests.curation.dedup.test_edits import picture
from tests.curation.dedup.world import ALL_CELLS, World, make_world, shard_of


def a_world() -> tuple[World, np.ndarray, list[int]]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, 8))[rng.integers(10, size=60)]
    rows += rng.uniform(0, 0.35, (60, 1)) * rng.standard_normal((60, 8))
    array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    cells = CellSettings(4, 2, **ALL_CELLS)
    world = make_world(MemoryStorage(), array, cells, leader_similarity=1.0, max_pairs=1000)
    world.bring({"1": shard_of(array[30:], 1)})
    world.bring({"0": shard_of(array[:30], 0)})
    names = sorted(world.fingerprints().items())
    return world, array, current_ordinals(world.state, names)


def test_bands_hold_the_pairs_of_brute_force_with_examples_of_each() -> None:
    world, array, shards = a_world()
    similar = cosines(array)[np.triu_indices(60, 1)]
    expected, _ = np.histogram(similar, bins=[*map(np.float32, BOUNDS), 2.0])
    bands = similarity_bands(world.state, shards, num_examples=3)
    assert [band.num_pairs for band in bands] == expected.tolist()
    assert (expected >= 3).sum() > 5
    for band in bands:
        assert len(band.examples) == min(3, band.num_pairs)
        for one, other, similarity in band.examples:
            rows = [(i >> 32) * 30 + (i & 0xFFFFFFFF) for i in (one, other)]
            assert cosines(array)[rows[0], rows[1]] == pytest.approx(similarity, abs=1e-6)
            assert np.float32(band.low) <= np.float32(similarity)


def test_bounds_out_of_order_or_without_pairs_are_refused() -> None:
    world, _, shards = a_world()
    for bounds in ((), (0.95, 0.9), (0.7, 0.9)):
        with pytest.raises(InputError, match=r"expected ascending cosines from 0\.8"):
            similarity_bands(world.state, shards, bounds=bounds)


HashImages = Callable[[Sequence[bytes]], np.ndarray]


def gray_values(images: Sequence[bytes]) -> np.ndarray:
    """Embed images as their pixels."""
    rows = []
    for image in images:
        with Image.open(io.BytesIO(image)) as opened:
            rows.append(np.asarray(opened.convert("L").resize((8, 8)), np.float32).ravel())
    values = np.stack(rows) - 128
    with np.errstate(invalid="ignore"):  # a blank one has no direction
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def signs(images: Sequence[bytes]) -> np.ndarray:
    """Hash images to 256 bits: each pixel four times."""
    return np.packbits(np.repeat(gray_values(images) > 0, 4, axis=1), axis=1)


def unlike(images: Sequence[bytes]) -> np.ndarray:
    """Hash images to 256 bits that are far from all others'."""
    digests = [hashlib.sha256(image).digest() for image in images]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def embed(images: Sequence[bytes], hash_images: HashImages = signs) -> pa.Table:
    """Describe images as the pipeline does, by their pixels; a blank one has no vector."""
    vectors, hashes = gray_values(images), hash_images(images)
    valid = np.isfinite(vectors).all(axis=1)
    vectors = np.nan_to_num(vectors).astype(np.float16)
    return pa.table(
        {
            "sha256": [hashlib.sha256(image).hexdigest() for image in images],
            "perceptual_hash": pa.array(
                [found.tobytes() for found in hashes], pa.binary(32), mask=~valid
            ),
            EMBEDDING: embedding_column(vectors, valid),
        }
    )


embed_apart = partial(embed, hash_images=unlike)


def four_images() -> list[bytes]:
    images = [picture(40 + i, 30) for i in range(3)]
    with Image.open(io.BytesIO(images[0])) as opened:
        other = io.BytesIO()
        opened.rotate(180).save(other, "PNG")
    return [*images, other.getvalue()]


def test_each_threshold_catches_the_copies_and_the_others_that_reach_it() -> None:
    images = four_images()
    found = measure_edits(images, embed_apart, edits=["mirrored"])
    rows = {(r["method"], r["threshold"], r["edit"]): r for r in found.table.to_pylist()}
    vectors = gray_values(images)
    different = (vectors @ vectors.T)[np.triu_indices(4, 1)]
    assert rows["semantic", 0.9, None]["pairs"] == 6
    assert rows["semantic", 0.9, None]["caught"] == (different >= 0.9).sum() == 3
    assert rows["semantic", 0.9, "mirrored"]["pairs"] == 4
    assert rows["semantic", 0.9, "mirrored"]["caught"] == 0
    bits = np.unpackbits(unlike(images), axis=1)
    distances = (bits[:, None] != bits).sum(axis=2)[np.triu_indices(4, 1)]
    assert rows["perceptual", 31, None]["caught"] == (distances <= 31).sum() == 0
    assert rows["exact", 1, None]["caught"] == 0
    expected = np.sort(different)[::-1]
    assert [pair.cosine for pair in found.closest] == pytest.approx(expected, abs=2e-3)
    assert found.closest[0].bits == distances[np.argmax(different)]


def test_the_same_bytes_are_an_exact_copy_and_no_vector_is_like_no_other() -> None:
    blank = io.BytesIO()
    Image.new("L", (40, 30), 128).save(blank, "PNG")
    images = [picture(40, 30), blank.getvalue(), blank.getvalue()]
    found = measure_edits(images, embed, edits=[])
    rows = {(r["method"], r["threshold"]): r for r in found.table.to_pylist()}
    assert (rows["exact", 1]["caught"], rows["exact", 1]["pairs"]) == (1, 3)
    assert rows["semantic", 0.8]["caught"] == rows["perceptual", 31]["caught"] == 0
    assert found.closest == found.copies == ()


def test_copies_by_both_methods_are_no_mistakes_and_are_named() -> None:
    images = [*four_images(), picture(60, 50)]
    found = measure_edits(images, embed, edits=["gray"])
    assert {(pair.one, pair.other) for pair in found.copies} >= {(0, 1), (0, 2), (0, 4)}
    assert [(pair.one, pair.other) for pair in found.closest] == [(0, 3)]
    pairs = {r["edit"]: r["pairs"] for r in found.table.to_pylist()}
    assert pairs == {None: 1, "gray": 2}


def test_the_most_lenient_threshold_takes_no_different_images_for_one() -> None:
    table = measure_edits(four_images(), embed_apart, edits=[]).table
    vectors = gray_values(four_images())
    highest = (vectors @ vectors.T)[np.triu_indices(4, 1)].max()
    expected = min((t for t in THRESHOLDS["semantic"] if t > highest), default=None)
    assert most_lenient(table, "semantic") == expected
    assert most_lenient(table, "perceptual") == 31


def test_one_image_is_too_few() -> None:
    with pytest.raises(InputError, match="two images at least; found 1"):
        measure_edits([picture(4, 4)], embed)
