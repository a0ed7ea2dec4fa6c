"""No pair of hashes that differ in at most 31 bits is missed."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from curation.dedup.perceptual import MAX_DISTANCE, find_perceptual_pairs
from curation.dedup.resolve import PERCEPTUAL, make_edges, resolve
from curation.errors import InputError
from curation.ingest.demo_pictures import open_photographs
from tests.curation.dedup.brute_force import best_first, greedy_leader


@st.composite
def crowded_hashes(draw: st.DrawFn) -> np.ndarray:
    """Draw hashes of which many differ in 0 to 40 bits, some in none."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    bits = [rng.integers(0, 2, 256)]
    for _ in range(draw(st.integers(0, 40))):
        source = (
            bits[rng.integers(len(bits))] if rng.random() < 0.8 else rng.integers(0, 2, 256)
        )
        changed = source.copy()
        changed[rng.permutation(256)[: rng.integers(0, 41)]] ^= 1
        bits.append(changed if rng.random() < 0.7 else source)
    return np.packbits(np.stack(bits).astype(np.uint8), axis=1)


def distances(hashes: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(hashes, axis=1).astype(int)
    return (bits[:, None] != bits[None]).sum(axis=2)


@given(crowded_hashes(), st.integers(0, 1 << 32), st.integers(0, MAX_DISTANCE))
def test_every_close_pair_of_different_hashes_is_found(
    hashes: np.ndarray, seed: int, max_distance: int
) -> None:
    hashes = np.unique(hashes, axis=0)
    rank = np.random.default_rng(seed).permutation(len(hashes))
    table = find_perceptual_pairs(hashes, rank, max_distance=max_distance)
    expected = distances(hashes)
    close = np.argwhere((expected <= max_distance) & (rank[:, None] < rank))
    found = np.stack([table["row"].to_numpy(), table["better"].to_numpy()], axis=1)
    np.testing.assert_array_equal(found, close)
    np.testing.assert_array_equal(
        table["distance"].to_numpy(), expected[found[:, 0], found[:, 1]]
    )


@given(crowded_hashes(), st.integers(0, 1 << 32))
def test_with_equal_hashes_too_the_decision_is_that_of_all_pairs(
    hashes: np.ndarray, seed: int
) -> None:
    rank = np.random.default_rng(seed).integers(0, 5, len(hashes))
    table = find_perceptual_pairs(hashes, rank)
    row, better = table["row"].to_numpy(), table["better"].to_numpy()
    assert len({(r, b) for r, b in zip(row, better, strict=True)}) == len(row)
    removals = resolve(make_edges(row, better, 1.0, PERCEPTUAL))
    kept = greedy_leader(distances(hashes) <= MAX_DISTANCE, best_first(rank))
    assert removals.removed.tolist() == np.flatnonzero(~kept).tolist()


def test_a_million_equal_hashes_give_a_million_pairs() -> None:
    hashes = np.zeros((200_000, 32), np.uint8)
    table = find_perceptual_pairs(hashes, np.arange(200_000))
    assert len(table) == 199_999
    assert set(table["better"].to_pylist()) == {199_999}


def test_no_and_one_hash_have_no_pairs() -> None:
    for num_rows in (0, 1):
        hashes = np.zeros((num_rows, 32), np.uint8)
        table = find_perceptual_pairs(hashes, np.arange(num_rows))
        assert table.schema.types == [pa.int64(), pa.int64(), pa.uint8()]
        assert len(table) == 0


def test_pdq_hashes_of_edited_photographs_are_close_and_of_others_far() -> None:
    pdqhash = pytest.importorskip("pdqhash")
    names = ("astronaut", "chelsea", "coffee", "china", "flower")
    photographs = open_photographs()
    images = [photographs[name].resize((256, 256)) for name in names]
    images += [ImageEnhance.Brightness(image).enhance(1.2) for image in images]
    images += [image.resize((128, 128), Image.Resampling.BOX) for image in images[:5]]
    bits = [pdqhash.compute(np.asarray(image))[0] for image in images]
    hashes = np.packbits(np.stack(bits).astype(np.uint8), axis=1)
    table = find_perceptual_pairs(hashes, -np.arange(len(hashes)))
    pairs = zip(table["row"].to_pylist(), table["better"].to_pylist(), strict=True)
    found = {pair for pair in pairs if pair[1] < 5}
    assert found == {(i, i % 5) for i in range(5, 15)}


@pytest.mark.parametrize(
    ("hashes", "rank", "distance", "message"),
    [
        (
            np.zeros((3, 16), np.uint8),
            np.arange(3),
            31,
            r"\(N, 32\) uint8; found \(3, 16\)",
        ),
        (np.zeros((3, 32), np.int8), np.arange(3), 31, "found .* int8"),
        (np.zeros((3, 32), np.uint8), np.arange(2), 31, r"expected \(3,\); found \(2,\)"),
        (np.zeros((3, 32), np.uint8), np.arange(3), 32, "max_distance is 32; expected 0"),
        (np.zeros((3, 32), np.uint8), np.arange(3), -1, "max_distance is -1"),
    ],
)
def test_wrong_input_is_named(
    hashes: np.ndarray, rank: np.ndarray, distance: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        find_perceptual_pairs(hashes, rank, max_distance=distance)
