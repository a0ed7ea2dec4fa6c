"""Images are drawn from all shards, and none twice."""

import hashlib

import pyarrow as pa
import pytest

from curation.dedup.calibrate import Calibration
from jobs.calibrate import LEAST_IMAGES, LEAST_PAIRS, advice, draw_images
from tests.conftest import Curated


def test_images_are_drawn_from_all_shards_and_differ(curated_once: Curated) -> None:
    drawn = draw_images(curated_once.recipe, 60)
    assert len({hashlib.sha256(one.image).digest() for one in drawn}) == 60
    assert len({one.shard for one in drawn}) == 3
    assert draw_images(curated_once.recipe, 60) == drawn
    assert draw_images(curated_once.recipe, 60, seed=1) != drawn


def test_there_may_be_fewer_images_than_asked_for(curated_once: Curated) -> None:
    assert 60 < len(draw_images(curated_once.recipe, 10**6)) < 240


def calibration(num_pairs: int, caught: int = 0) -> Calibration:
    rows = [
        {"method": "semantic", "threshold": at, "edit": None, "pairs": num_pairs}
        | {"caught": caught if at < 0.9 else 0}
        for at in (0.8, 0.98)
    ]
    return Calibration(pa.Table.from_pylist(rows), (), ())


@pytest.mark.parametrize("num_pairs", [1, 1770, LEAST_PAIRS - 1])
def test_few_pairs_support_no_threshold(num_pairs: int) -> None:
    told = advice(calibration(num_pairs))
    assert "No threshold is advised" in told
    assert "0.8" not in told
    assert f"{num_pairs:,} pairs" in told and f"--num-images {LEAST_IMAGES}" in told


def test_an_advice_says_how_many_pairs_it_rests_on() -> None:
    assert LEAST_IMAGES * (LEAST_IMAGES - 1) // 2 > LEAST_PAIRS
    told = advice(calibration(18_915, caught=52))
    assert "min_similarity: 0.98" in told
    assert "none of 18,915 pairs" in told and "fewer than 1 of 6,305 pairs" in told
