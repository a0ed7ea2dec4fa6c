"""What is part of an artifact's identity, and what is not."""

import shutil
from pathlib import Path

import pytest

from curation.recipe import Recipe
from curation_assets.lineage import _SETTINGS, VERSIONS, Lineage
from tests.conftest import Curated

RECIPE = Recipe(name="test", source="/nowhere", output="/nowhere-else")


def versions(recipe: Recipe) -> dict[str, str]:
    lineage = Lineage(recipe)
    return {asset: lineage.code_version(asset) for asset in VERSIONS}


def changed(before: Recipe, after: Recipe) -> set[str]:
    old, new = versions(before), versions(after)
    return {asset for asset in VERSIONS if old[asset] != new[asset]}


def test_spacing_of_a_filter_changes_nothing() -> None:
    one = RECIPE.model_copy(update={"filter": "width>=200 and (height >= 200)"})
    other = RECIPE.model_copy(update={"filter": "width >= 200 and height >= 200"})
    assert changed(one, other) == set()


def test_a_threshold_changes_the_selection_alone() -> None:
    one = RECIPE.model_copy(update={"filter": "width >= 200"})
    other = RECIPE.model_copy(update={"filter": "width >= 201"})
    assert changed(one, other) == {"selection", "filter_cuts"}  # which no filter here has


def test_what_is_done_with_corrupt_images_counts_where_it_is_not_the_default() -> None:
    """Embeddings that were made before there was such a setting stay what they are."""
    settings = RECIPE.images.model_dump(mode="json")
    assert settings.pop("on_corruption") == "quarantine"
    assert _SETTINGS["embeddings"](RECIPE)["images"] == settings
    keeping = RECIPE.images.model_copy(update={"on_corruption": "keep"})
    kept = RECIPE.model_copy(update={"images": keeping})
    assert "embeddings" in changed(RECIPE, kept)


def test_extensions_of_texts_count_where_they_are_not_the_default() -> None:
    """Embeddings that were made before there was such a setting stay what they are."""
    assert set(_SETTINGS["embeddings"](RECIPE)) == {"encoder", "images"}
    texts = RECIPE.texts.model_copy(update={"caption_extensions": ("outputs.txt",)})
    other = RECIPE.model_copy(update={"texts": texts})
    assert "embeddings" in changed(RECIPE, other)


def test_weights_count_by_content_and_not_by_path(curated: Curated) -> None:
    before = versions(curated.recipe)
    probe = curated.folder / "probe.safetensors"
    shutil.copy(probe, curated.folder / "renamed.safetensors")
    assert versions(curated.edit("probe.safetensors", "renamed.safetensors")) == before
    renamed = curated.folder / "renamed.safetensors"
    renamed.write_bytes(probe.read_bytes()[:-4] + b"\0\0\0\x3f")
    after = versions(curated.recipe)
    assert {asset for asset in VERSIONS if before[asset] != after[asset]} == {"scores"}


def test_a_graph_can_be_drawn_before_the_weights_are_there(tmp_path: Path) -> None:
    absent = {"probe": {"type": "linear_probe", "weights": str(tmp_path / "absent")}}
    assert versions(RECIPE.model_copy(update={"classifiers": absent}))


def test_scores_are_an_input_of_the_groups_only_where_they_decide() -> None:
    by_score = RECIPE.model_validate(
        RECIPE.model_dump()
        | {
            "classifiers": {"mine": {"type": "linear_probe", "weights": "x"}},
            "duplicates": {"prefer": ["mine desc"]},
        }
    )
    assert Lineage(RECIPE).inputs("duplicate_groups") == ("embeddings",)
    assert Lineage(by_score).inputs("duplicate_groups") == ("embeddings", "scores")


def test_the_filter_is_a_setting_of_the_groups_only_where_it_decides() -> None:
    def version(prefer: str, filter_: str) -> str:
        settings = {"duplicates": {"prefer": [prefer]}, "filter": filter_}
        recipe = RECIPE.model_validate(RECIPE.model_dump() | settings)
        return Lineage(recipe).groups_version

    assert version("key asc", "width > 1") == version("key asc", "width > 2")
    passing = "passes_filter desc"
    assert version(passing, "width > 1") != version(passing, "width > 2")


def test_inputs_are_of_the_recipe_and_of_no_code_version() -> None:
    def with_list(path: str) -> Recipe:
        imports = {"imports": {"urls": {"web": {"list": path}}}}
        return RECIPE.model_validate(RECIPE.model_dump() | imports)

    one, other = with_list("/one.csv"), with_list("/other.csv")
    assert changed(one, other) == set()
    assert Lineage(one).recipe_version != Lineage(other).recipe_version
    assert Lineage(one).inputs("raw_shard") == ("imported_urls",)
    assert Lineage(RECIPE).inputs("raw_shard") == ()


@pytest.mark.parametrize("asset", VERSIONS)
def test_an_artifact_depends_on_each_of_its_inputs(asset: str) -> None:
    lineage = Lineage(RECIPE)
    inputs = dict.fromkeys(lineage.inputs(asset), "1")
    expected = lineage.expected(asset, inputs)
    for name in inputs:
        assert lineage.expected(asset, inputs | {name: "2"}) != expected
