"""What is due, and why: after every kind of change exactly what depends on it."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from curation.recipe import EncoderSettings, Recipe
from curation.storage import StoredFile
from curation_assets.global_asset import MADE_OF, made_of
from curation_assets.lineage import GLOBAL_ASSETS, IMAGE_ASSETS, Lineage, raw_version
from curation_assets.shard_asset import recorded_versions
from jobs import plan as planning
from jobs.plan import DUPLICATES_GONE, Plan

RECIPE = Recipe(name="test", source="/nowhere", output="/nowhere")
PER_SHARD_ASSETS = tuple(a for a in Lineage(RECIPE).assets if a not in GLOBAL_ASSETS)
TARS = {shard: StoredFile(f"{shard}.tar", 1000, "1") for shard in ("a/0", "a/1", "b/0")}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def record(instance: dg.DagsterInstance, asset: str, shard: str, version: str) -> None:
    event = dg.AssetMaterialization(
        asset, partition=shard, tags={"dagster/data_version": version}
    )
    instance.report_runless_asset_event(event)


def make_everything(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    tars: dict[str, StoredFile],
    assets: tuple[str, ...] = PER_SHARD_ASSETS,
) -> None:
    """Record what a complete run would record."""
    for shard, tar in tars.items():
        versions = {"raw_shard": raw_version(tar), "duplicates": "none"}
        for asset in PER_SHARD_ASSETS:
            if asset not in versions:
                inputs = {name: versions[name] for name in lineage.inputs(asset)}
                versions[asset] = lineage.expected(asset, inputs)
            if asset in assets:
                record(instance, asset, shard, versions[asset])
    inputs = {name: recorded_versions(instance, name) for name in ("embeddings", "scores")}
    groups = made_of(
        lineage,
        "duplicate_groups",
        {n: {s: v for s, v in found.items() if s in tars} for n, found in inputs.items()},
    )
    event = dg.AssetMaterialization("duplicate_groups", metadata={MADE_OF: groups})
    instance.report_runless_asset_event(event)


def make_plan(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    tars: dict[str, StoredFile],
    gone: str = "",
) -> Plan:
    """Plan with every file there but one."""
    files = {
        path
        for shard in (*TARS, *tars)
        for asset in PER_SHARD_ASSETS
        for path in lineage.artifacts.of(asset, shard)
    }
    versions = {shard: raw_version(tar) for shard, tar in tars.items()}
    return planning.make_plan(instance, lineage, versions, files - {gone})


def due(plan: Plan) -> dict[str, list[str]]:
    return {asset: sorted(causes) for asset, causes in plan.due.items() if causes}


def test_everything_is_due_at_first(instance: dg.DagsterInstance) -> None:
    plan = make_plan(instance, Lineage(RECIPE), TARS)
    assert due(plan) == {asset: sorted(TARS) for asset in PER_SHARD_ASSETS}
    assert plan.global_due == {"duplicate_groups": "new"}
    assert {cause for causes in plan.due.values() for cause in causes.values()} == {"new"}


def test_nothing_is_due_after_everything_was_made(instance: dg.DagsterInstance) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    assert make_plan(instance, Lineage(RECIPE), TARS).is_empty


def test_a_replaced_tar_is_due_with_its_chain_and_nothing_else(
    instance: dg.DagsterInstance,
) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    tars = TARS | {"a/1": replace(TARS["a/1"], version="2")}
    plan = make_plan(instance, Lineage(RECIPE), tars)
    images = [asset for asset in IMAGE_ASSETS if asset in PER_SHARD_ASSETS]
    chain = (*images, "selection", "filtered_shard")
    assert due(plan) == {asset: ["a/1"] for asset in chain}
    assert plan.due["raw_shard"]["a/1"] == "the tar was replaced"
    assert plan.due["embeddings"]["a/1"] == "shard_index changes"


def test_a_new_tar_is_due_and_the_others_are_not(instance: dg.DagsterInstance) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    tars = TARS | {"c/0": StoredFile("c/0.tar", 5, "1")}
    plan = make_plan(instance, Lineage(RECIPE), tars)
    assert due(plan) == {asset: ["c/0"] for asset in PER_SHARD_ASSETS}


def test_the_groups_are_due_once_the_new_shard_is_embedded(
    instance: dg.DagsterInstance,
) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    tars = TARS | {"c/0": StoredFile("c/0.tar", 5, "1")}
    assert make_plan(instance, Lineage(RECIPE), tars).global_due == {}
    record(instance, "embeddings", "c/0", "made")
    assert make_plan(instance, Lineage(RECIPE), tars).global_due


def test_a_tar_that_is_gone_makes_the_groups_due(instance: dg.DagsterInstance) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    tars = {shard: tar for shard, tar in TARS.items() if shard != "b/0"}
    plan = make_plan(instance, Lineage(RECIPE), tars)
    assert due(plan) == {}
    assert plan.global_due


def test_another_filter_makes_only_the_decision_due(instance: dg.DagsterInstance) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    changed = Lineage(RECIPE.model_copy(update={"filter": "width > 10"}))
    plan = make_plan(instance, changed, TARS)
    assert due(plan) == {asset: sorted(TARS) for asset in ("selection", "filtered_shard")}
    assert plan.global_due == {}


def test_another_encoder_makes_all_below_the_index_due(
    instance: dg.DagsterInstance,
) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    encoder = EncoderSettings(model="vit_base_patch16_224", weights="hub")
    changed = Lineage(RECIPE.model_copy(update={"encoder": encoder}))
    assert "shard_index" not in due(make_plan(instance, changed, TARS))
    assert due(make_plan(instance, changed, TARS))["embeddings"] == sorted(TARS)


def test_another_machine_makes_nothing_due(instance: dg.DagsterInstance) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    machine = RECIPE.machine.model_copy(update={"device": "cpu", "batch_size": 7})
    changed = Lineage(RECIPE.model_copy(update={"machine": machine}))
    assert make_plan(instance, changed, TARS).is_empty


def test_a_selection_is_due_when_its_duplicates_changed(
    instance: dg.DagsterInstance,
) -> None:
    make_everything(instance, Lineage(RECIPE), TARS)
    record(instance, "duplicates", "a/0", "another slice")
    plan = make_plan(instance, Lineage(RECIPE), TARS)
    assert due(plan) == {"selection": ["a/0"], "filtered_shard": ["a/0"]}


def test_what_a_crash_left_undone_is_due(instance: dg.DagsterInstance) -> None:
    make_everything(instance, Lineage(RECIPE), TARS, ("raw_shard", "shard_index"))
    plan = make_plan(instance, Lineage(RECIPE), TARS)
    assert "shard_index" not in due(plan)
    assert due(plan)["embeddings"] == sorted(TARS)


def test_what_was_deleted_is_due_with_what_is_made_of_it(
    instance: dg.DagsterInstance,
) -> None:
    lineage = Lineage(RECIPE)
    make_everything(instance, lineage, TARS)
    gone = lineage.artifacts.filtered_index("a/1")
    assert due(make_plan(instance, lineage, TARS, gone)) == {"filtered_shard": ["a/1"]}


def test_the_groups_are_due_when_duplicates_were_deleted(
    instance: dg.DagsterInstance,
) -> None:
    lineage = Lineage(RECIPE)
    make_everything(instance, lineage, TARS)
    gone = lineage.artifacts.duplicates("a/1")
    plan = make_plan(instance, lineage, TARS, gone)
    assert plan.global_due == {"duplicate_groups": DUPLICATES_GONE}
