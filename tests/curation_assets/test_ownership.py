"""Two recipes of one name and one output: the second is told at once, by name."""

import json
from collections.abc import Iterator

import dagster as dg
import pytest

from curation.errors import InputError
from curation.recipe import Recipe
from curation.storage import MemoryStorage
from curation_assets.lineage import Lineage
from curation_assets.ownership import (
    OWNERS,
    check_owner,
    claim_output,
    has_other_sources,
)

RECIPE = Recipe(name="mine", source="/raw", output="/out", filter="width >= 470")


def changed(**settings: object) -> Lineage:
    return Lineage(RECIPE.model_copy(update=settings))


@pytest.fixture
def homes() -> Iterator[tuple[dg.DagsterInstance, dg.DagsterInstance]]:
    with dg.DagsterInstance.ephemeral() as one, dg.DagsterInstance.ephemeral() as other:
        yield one, other


Homes = tuple[dg.DagsterInstance, dg.DagsterInstance]


@pytest.mark.parametrize(
    "settings",
    [
        {"filter": "width < 470"},
        {"source": "/elsewhere"},
        {"on_damage": "salvage"},
        {"duplicates": RECIPE.duplicates.model_copy(update={"max_hamming": 8})},
    ],
)
def test_another_home_with_other_settings_is_refused_by_name(
    homes: Homes, settings: dict[str, object]
) -> None:
    output = MemoryStorage("out")
    claim_output(homes[0], output, Lineage(RECIPE))
    before = output.read(OWNERS)
    for look in (check_owner, claim_output):
        with pytest.raises(
            InputError, match=r"another recipe called mine writes to .*/raw"
        ):
            look(homes[1], output, changed(**settings))
    assert output.read(OWNERS) == before


def test_one_home_may_edit_its_recipe_and_another_may_run_the_same(homes: Homes) -> None:
    output = MemoryStorage("out")
    edited = changed(filter="width < 470")
    claim_output(homes[0], output, Lineage(RECIPE))
    claim_output(homes[0], output, edited)
    claim_output(homes[1], output, edited)
    check_owner(homes[1], output, changed(filter="width   <  470"))  # says the same
    with pytest.raises(InputError, match="another recipe called mine"):
        claim_output(homes[1], output, Lineage(RECIPE))


def test_recipes_of_other_names_are_nobody_s_business(homes: Homes) -> None:
    output = MemoryStorage("out")
    claim_output(homes[0], output, Lineage(RECIPE))
    claim_output(homes[1], output, changed(name="other", filter="true"))
    assert set(json.loads(output.read(OWNERS))) == {"mine", "other"}
    assert not has_other_sources(output, Lineage(RECIPE))
    claim_output(homes[1], output, changed(name="third", source="/elsewhere"))
    assert has_other_sources(output, Lineage(RECIPE))


@pytest.mark.parametrize("data", [b"", b"[]", b'{"mine": 1}', b'{"mine": {}}', b"\xff"])
def test_a_record_that_is_none_refuses_nobody(homes: Homes, data: bytes) -> None:
    output = MemoryStorage("out")
    output.write(OWNERS, data)
    claim_output(homes[0], output, Lineage(RECIPE))
    assert json.loads(output.read(OWNERS))["mine"]["source"] == "/raw"
