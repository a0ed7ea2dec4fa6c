"""Images are drawn from all shards, and none twice."""

import hashlib

from jobs.calibrate import draw_images
from tests.conftest import Curated


def test_images_are_drawn_from_all_shards_and_differ(curated_once: Curated) -> None:
    drawn = draw_images(curated_once.recipe, 60)
    assert len({hashlib.sha256(one.image).digest() for one in drawn}) == 60
    assert len({one.shard for one in drawn}) == 3
    assert draw_images(curated_once.recipe, 60) == drawn
    assert draw_images(curated_once.recipe, 60, seed=1) != drawn


def test_there_may_be_fewer_images_than_asked_for(curated_once: Curated) -> None:
    assert 60 < len(draw_images(curated_once.recipe, 10**6)) < 240
