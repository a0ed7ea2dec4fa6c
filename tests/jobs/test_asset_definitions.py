"""The assets of a recipe."""

import dagster as dg
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


def test_a_run_finds_what_is_wrong_before_its_first_step(curated: Curated) -> None:
    recipe = curated.edit("encoder: {", "encoder: {model: tf_efficientnet_light, ")
    job = asset_definitions(recipe).resolve_implicit_global_asset_job_def()
    chosen = ("shard_index", "embeddings")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shards", ["00000"])
        done = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in chosen],
            partition_key="00000",
            raise_on_error=False,
        )
    assert not done.success
    assert not any(event.is_step_start for event in done.all_events)
    told = [event for event in done.all_events if "nearest names" in str(event)]
    assert told
