"""Pairs are counted as brute force counts them, in bands and over edits."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from curation.dedup.calibrate import BOUNDS, measure_edits, similarity_bands
from curation.dedup.centroids import CellSettings
from curation.dedup.state import current_ordinals
from curation.errors import InputError
from curation.storage import MemoryStorage
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


def gray_values(images: Sequence[bytes]) -> np.ndarray:
    """Embed images as their pixels."""
    rows = []
    for image in images:
        with Image.open(io.BytesIO(image)) as opened:
            rows.append(np.asarray(opened.convert("L").resize((8, 8)), np.float32).ravel())
    values = np.stack(rows) - 128
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def signs(images: Sequence[bytes]) -> np.ndarray:
    """Hash images to 256 bits: each pixel four times."""
    return np.packbits(np.repeat(gray_values(images) > 0, 4, axis=1), axis=1)


def test_each_threshold_catches_the_copies_and_the_others_that_reach_it() -> None:
    images = [picture(40 + i, 30) for i in range(3)]
    with Image.open(io.BytesIO(images[0])) as opened:
        other = io.BytesIO()
        opened.rotate(180).save(other, "PNG")
    images.append(other.getvalue())
    table = measure_edits(images, gray_values, hash_images=signs, edits=["mirrored"])
    rows = {(r["method"], r["threshold"], r["edit"]): r for r in table.to_pylist()}
    vectors = gray_values(images)
    different = (vectors @ vectors.T)[np.triu_indices(4, 1)]
    assert rows["semantic", 0.9, None]["pairs"] == 6
    assert rows["semantic", 0.9, None]["caught"] == (different >= 0.9).sum() == 3
    assert rows["semantic", 0.9, "mirrored"]["pairs"] == 4
    assert rows["semantic", 0.9, "mirrored"]["caught"] == 0
    bits = np.unpackbits(signs(images), axis=1)
    distances = (bits[:, None] != bits).sum(axis=2)[np.triu_indices(4, 1)]
    assert rows["perceptual", 31, None]["caught"] == (distances <= 31).sum()
    without = measure_edits(images, gray_values, edits=["gray"])
    assert set(without["method"].to_pylist()) == {"semantic"}


def test_one_image_is_too_few() -> None:
    with pytest.raises(InputError, match="two images at least; found 1"):
        measure_edits([picture(4, 4)], gray_values)
