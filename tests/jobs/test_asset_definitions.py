"""The assets of a recipe."""

import pytest

from curation.errors import InputError
from curation_assets.lineage import Lineage
from jobs.asset_definitions import ASSETS, asset_definitions
from tests.conftest import Curated

RELEASE_ASSETS = ("release_plan", "release_shard", "release")


def names(curated: Curated) -> set[str]:
    graph = asset_definitions(curated.recipe).resolve_asset_graph()
    return {key.to_user_string() for key in graph.get_all_asset_keys()}


def test_a_recipe_has_the_assets_that_it_needs_and_no_others(curated: Curated) -> None:
    assert names(curated) == {*Lineage(curated.recipe).assets, *RELEASE_ASSETS}
    assert not {"filter_cuts", "caption_embeddings"} & names(curated)
    curated.edit("not is_duplicate", "top_fraction(width, 0.5)")
    curated.edit("machine:", "text_encoder: {}\nmachine:")
    curated.edit(
        "machine:",
        "imports: {images: {a: {folder: photos}}, urls: {b: {list: l.csv}}}\nmachine:",
    )
    assert names(curated) == {*ASSETS, *RELEASE_ASSETS}


def test_a_wrong_recipe_has_none(curated: Curated) -> None:
    with pytest.raises(InputError, match="width"):
        asset_definitions(curated.edit("min(width", "min(widht"))
