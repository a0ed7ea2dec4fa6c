"""Pictures come from regions that hardly overlap, each with a look of its own."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from curation.errors import NotFoundError
from curation.ingest import demo_pictures
from curation.ingest.demo_pictures import (
    MAX_OVERLAP,
    PHOTOGRAPHS,
    Photograph,
    Region,
    distinct_regions,
    make_picture,
    open_photographs,
)


@pytest.fixture(scope="module")
def regions() -> list[Region]:
    return distinct_regions(open_photographs())


def overlap(a: Region, b: Region) -> float:
    width = max(0, min(a.right, b.right) - max(a.left, b.left))
    height = max(0, min(a.bottom, b.bottom) - max(a.top, b.top))
    areas = [(r.right - r.left) * (r.bottom - r.top) for r in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_no_two_regions_overlap_by_more_than_the_bound(regions: list[Region]) -> None:
    for name in PHOTOGRAPHS:
        ours = [region for region in regions if region.photograph == name]
        overlaps = [overlap(a, b) for i, a in enumerate(ours) for b in ours[:i]]
        assert max(overlaps, default=0) <= MAX_OVERLAP


def test_regions_lie_inside_their_photographs(regions: list[Region]) -> None:
    photographs = open_photographs()
    for region in regions:
        width, height = photographs[region.photograph].size
        assert 0 <= region.left < region.right <= width
        assert 0 <= region.top < region.bottom <= height


def test_textures_come_half_as_often_as_other_photographs(regions: list[Region]) -> None:
    first = Counter(region.photograph for region in regions[:90])
    assert {first[name] for name in ("gravel", "brick", "grass")} == {3}
    assert {first[name] for name in ("astronaut", "coffee", "ihc")} == {6}


def test_a_picture_is_the_same_for_the_same_draw(regions: list[Region]) -> None:
    photographs = open_photographs()
    for region in regions[:20]:
        image = photographs[region.photograph]
        one, two = (make_picture(image, region, np.random.default_rng(5)) for _ in "ab")
        assert one.image.tobytes() == two.image.tobytes()
        assert one.caption == two.caption


def test_looks_differ_between_draws(regions: list[Region]) -> None:
    image = open_photographs()["coffee"]
    region = next(region for region in regions if region.photograph == "coffee")
    drawn = [make_picture(image, region, np.random.default_rng(i)) for i in range(20)]
    sizes = {picture.image.size for picture in drawn}
    colours = {
        np.asarray(picture.image).mean((0, 1)).round().tobytes() for picture in drawn
    }
    assert len(sizes) > 15
    assert len(colours) > 10
    assert all(min(size) >= demo_pictures.SMALLEST_PICTURE for size in sizes)


def test_a_caption_names_subject_and_place_as_seen() -> None:
    image = open_photographs()["camera"]
    region = Region("camera", 0, 0, 112, 112)
    captions = {
        make_picture(image, region, np.random.default_rng(i)).caption for i in range(30)
    }
    assert len(captions) > 10
    assert all("tripod" in caption for caption in captions)
    assert any("top left" in caption for caption in captions)
    assert any("top right" in caption for caption in captions), "mirrored"
    assert all(caption[0].isupper() for caption in captions)


def test_grids_cover_a_length_without_leaving_it() -> None:
    for length in (112, 150, 300, 1411):
        starts = demo_pictures._grid(length, 112)
        assert min(starts) >= 0
        assert max(starts) + 112 <= length
        assert all(b - a >= 0.6 * 112 for a, b in pairwise(starts))


@pytest.mark.parametrize("module", ["skimage", "no_such_package"])
def test_a_photograph_that_is_not_there_names_the_packages(module: str) -> None:
    with pytest.raises(NotFoundError, match=r"scikit-image >= 0\.25 and scikit-learn"):
        demo_pictures._open(Photograph(module, "data/none.png", "", ""))
