"""A run makes what it was launched for, or nothing."""

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from curation.recipe import Recipe
from curation_assets.lineage import Lineage
from jobs.definitions import build_definitions
from jobs.instance import open_instance, set_shards
from tests.conftest import Curated

SHARD = "train/00001"


def run_with(
    curated: Curated, launched: Recipe, executed: Recipe, asset: str
) -> tuple[bool, str]:
    """Launch a run by the definitions of one recipe, execute it by those of another."""
    jobs = [
        build_definitions(recipe).resolve_implicit_global_asset_job_def()
        for recipe in (launched, executed)
    ]
    with open_instance(launched) as instance:
        set_shards(instance, ["00000", SHARD, "train/00002"])
        tags = {} if asset == "duplicate_groups" else {"dagster/partition": SHARD}
        wanted = [job.get_subset(asset_selection={dg.AssetKey(asset)}) for job in jobs]
        run = instance.create_run_for_job(
            wanted[0], asset_selection=frozenset({dg.AssetKey(asset)}), tags=tags
        )
        done = execute_run(InMemoryJob(wanted[1]), run, instance, raise_on_error=False)
        failed = [event for event in done.all_events if event.is_step_failure]
        told = failed[0].step_failure_data.user_failure_data if failed else None
        return done.success, (told.description or "") if told else ""


@pytest.mark.parametrize("asset", ["selection", "duplicate_groups"])
def test_a_recipe_that_was_edited_after_the_launch_is_refused(
    curated: Curated, asset: str
) -> None:
    launched = curated.recipe
    edited = curated.edit(">= 200", ">= 300")
    files = curated.output.list_files()
    done, told = run_with(curated, launched, edited, asset)
    assert not done
    assert "Reload the code location" in told
    assert curated.output.list_files() == files


@pytest.mark.parametrize("asset", ["selection", "duplicate_groups"])
def test_the_same_recipe_is_executed(curated: Curated, asset: str) -> None:
    done, told = run_with(curated, curated.recipe, curated.recipe, asset)
    assert done, told


def test_what_changes_nothing_that_is_made_may_be_edited(curated: Curated) -> None:
    before = Lineage(curated.recipe).recipe_version
    after = Lineage(curated.edit("shards_per_run: 2", "shards_per_run: 3")).recipe_version
    assert after == before
