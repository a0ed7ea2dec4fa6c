"""A change of the recipe is told in its own words."""

from collections.abc import Iterator

import dagster as dg
import pytest

from curation.fingerprint import Json
from curation.recipe import Recipe
from curation_assets.lineage import VERSIONS, Lineage
from curation_assets.shard_asset import ShardTask, partition_event
from jobs.changes import FILE_CHANGED, RecipeChanges, changed_settings

RECIPE = Recipe(name="test", source="/nowhere", output="/nowhere")


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (
            {"images": {"max_pixels": 1, "a": 2}},
            {"images": {"max_pixels": 3, "a": 2}},
            ["images.max_pixels 1 -> 3"],
        ),
        (
            {"classifiers": {}},
            {"classifiers": {"nsfw": {"weights": "x"}}},
            ["classifiers.nsfw.weights (unset) -> x"],
        ),
        ({"on_damage": "salvage"}, {"on_damage": "salvage"}, []),
        (
            {"filter": "width > 10 and aesthetic >= 5.0"},
            {"filter": "width > 10 and aesthetic >= 5.5"},
            ["filter aesthetic >= 5.0 -> aesthetic >= 5.5"],
        ),
        (
            {"filter": "width > 10"},
            {"filter": "width > 10 and not is_duplicate"},
            ["filter (nothing) -> not is_duplicate"],
        ),
    ],
)
def test_what_changed_is_told_and_what_stayed_is_not(
    before: dict[str, Json], now: dict[str, Json], told: list[str]
) -> None:
    assert changed_settings(before, now) == told


def test_every_asset_with_settings_has_words_for_them() -> None:
    lineage = Lineage(RECIPE)
    for asset in VERSIONS:
        assert (lineage.settings(asset) is not None) == bool(
            lineage.recipe_settings(asset)
        ) or asset == "caption_embeddings"


def test_no_words_have_where_data_are_or_how_they_are_reached() -> None:
    lineage = Lineage(RECIPE)
    sections = {s for asset in VERSIONS for s in lineage.recipe_settings(asset)}
    assert sections.isdisjoint({"s3", "source", "output", "machine"})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def record(
    instance: dg.DagsterInstance, shard: str, code_version: str, settings: dict[str, Json]
) -> str:
    """Record an index made of the raw version ``raw``; give its data version."""
    version = Lineage(RECIPE).expected("shard_index", {"raw_shard": "raw"}, code_version)
    task = ShardTask(shard, version, {"raw_shard": "raw"}, 0, code_version, settings)
    instance.report_runless_asset_event(partition_event("shard_index", task, {}))
    return version


def since(changes: RecipeChanges, shard: str, version: str) -> str | None:
    return changes.since("shard_index", shard, version, {"raw_shard": "raw"})


def test_a_file_that_changed_under_the_same_settings_is_said_to_have(
    instance: dg.DagsterInstance,
) -> None:
    version = record(instance, "a", "1-other", {"on_damage": "quarantine"})
    assert since(RecipeChanges(instance, Lineage(RECIPE)), "a", version) == FILE_CHANGED


def test_one_shard_speaks_for_all_that_were_made_alike(
    instance: dg.DagsterInstance,
) -> None:
    changes = RecipeChanges(instance, Lineage(RECIPE))
    made = {
        shard: record(instance, shard, code, settings)
        for shard, code, settings in (
            ("a", "1-then", {"on_damage": "salvage"}),
            ("b", "1-then", {"on_damage": "salvage"}),
            ("c", "0-then", {"on_damage": "salvage"}),
            ("d", Lineage(RECIPE).code_version("shard_index"), {}),
        )
    }
    assert since(changes, "a", made["a"]) == "on_damage salvage -> quarantine"
    instance.wipe_assets([dg.AssetKey("shard_index")])
    assert since(changes, "b", made["b"]) == "on_damage salvage -> quarantine"
    assert since(changes, "c", made["c"]) is None  # nothing is on record of it any more


def test_what_was_made_by_the_same_settings_and_code_did_not_change(
    instance: dg.DagsterInstance,
) -> None:
    now = Lineage(RECIPE).code_version("shard_index")
    version = record(instance, "a", now, {"on_damage": "quarantine"})
    assert since(RecipeChanges(instance, Lineage(RECIPE)), "a", version) is None


def test_other_code_is_told_by_its_version(instance: dg.DagsterInstance) -> None:
    version = record(instance, "a", "0-then", {})
    told = since(RecipeChanges(instance, Lineage(RECIPE)), "a", version)
    assert told == "its code changed from version 0 to 1"
