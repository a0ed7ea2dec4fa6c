"""Two recipes of one name and one output: the second is told at once, by name."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from curation.errors import InputError
from curation.recipe import Recipe
from curation.storage import MemoryStorage
from curation_assets.lineage import Lineage
from curation_assets.ownership import (
    check_owner,
    claim_output,
    has_other_sources,
    owner_path,
)

RECIPE = Recipe(name="mine", source="/raw", output="/out", filter="width >= 470")
MINE = owner_path("mine")


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
    before = output.read(MINE)
    for look in (check_owner, claim_output):
        with pytest.raises(
            InputError, match=r"another recipe called mine writes to .*/raw"
        ):
            look(homes[1], output, changed(**settings))
    assert output.read(MINE) == before


def test_one_home_may_edit_its_recipe_and_another_may_run_the_same(homes: Homes) -> None:
    output = MemoryStorage("out")
    edited = changed(filter="width < 470")
    claim_output(homes[0], output, Lineage(RECIPE))
    claim_output(homes[0], output, edited)
    claim_output(homes[1], output, edited)
    check_owner(homes[1], output, changed(filter="width   <  470"))  # says the same
    with pytest.raises(InputError, match="another recipe called mine"):
        claim_output(homes[1], output, Lineage(RECIPE))


def test_records_that_were_deleted_to_start_afresh_are_no_other_s(
    tmp_path: Path,
) -> None:
    output, edited = MemoryStorage("out"), changed(filter="width < 470")
    home, other_home = tmp_path / "home", tmp_path / "other"
    for folder, lineage in ((home, Lineage(RECIPE)), (home, edited)):
        folder.mkdir()
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            claim_output(instance, output, lineage)
        shutil.rmtree(folder)
    assert json.loads(output.read(MINE))["home"] == str(home)
    other_home.mkdir()
    with dg.DagsterInstance.from_config(str(other_home)) as instance:
        with pytest.raises(InputError, match=f"records are in {home} on"):
            claim_output(instance, output, Lineage(RECIPE))
        with dg.DagsterInstance.ephemeral() as nobody, pytest.raises(InputError):
            claim_output(nobody, output, Lineage(RECIPE))


def test_recipes_of_other_names_are_nobody_s_business(homes: Homes) -> None:
    output = MemoryStorage("out")
    claim_output(homes[0], output, Lineage(RECIPE))
    claim_output(homes[1], output, changed(name="other", filter="true"))
    assert [file.path for file in output.list_files()] == [MINE, owner_path("other")]
    assert not has_other_sources(output, Lineage(RECIPE))
    claim_output(homes[1], output, changed(name="third", source="/elsewhere"))
    assert has_other_sources(output, Lineage(RECIPE))


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{}", b"\xff"])
def test_a_record_that_is_none_refuses_nobody(homes: Homes, data: bytes) -> None:
    output = MemoryStorage("out")
    output.write(MINE, data)
    claim_output(homes[0], output, Lineage(RECIPE))
    assert json.loads(output.read(MINE))["source"] == "/raw"


def test_a_source_s_password_is_not_on_record_and_one_of_before_is_the_same(
    homes: Homes,
) -> None:
    output = MemoryStorage("out")
    signed = changed(source="https://me:one@host/raw?token=one")
    claim_output(homes[0], output, signed)
    record = json.loads(output.read(MINE))
    assert record["source"] == "https://host/raw"
    again = changed(source="https://me:two@host/raw?token=two")
    claim_output(homes[1], output, again)  # signed anew, and no other recipe
    output.write(MINE, json.dumps(record | {"source": signed.recipe.source}).encode())
    assert not has_other_sources(output, again)
