"""A plan that is read back is the plan that was written, tar by tar."""

from collections.abc import Iterable

import pytest

from curation.errors import NotFoundError, ReleaseExistsError, StaleError
from curation.recipe import Recipe
from curation.release.frozen_plan import (
    FrozenPlan,
    open_planned,
    read_plan,
    read_planned_shard,
    write_plan,
)
from curation.release.manifest import read_manifest, release_folder
from curation.release.publish import (
    PlannedRelease,
    ReleaseOptions,
    bring_shard,
    plan_next_release,
    wanted_by,
)
from curation.release.shard import Target
from curation.release.sources import FilteredReader
from curation.storage import MemoryStorage
from tests.curation.release.world import (
    FOLDER,
    numbered,
    released,
    small_recipe,
    write_filtered,
)

PLAN = "release_plans/small.parquet"


@pytest.fixture
def output() -> MemoryStorage:
    storage = MemoryStorage("output")
    write_filtered(storage, "a", numbered(6))
    write_filtered(storage, "b/c", numbered(3))
    return storage


def planned(output: MemoryStorage, recipe: Recipe, *shards: str) -> PlannedRelease:
    return plan_next_release(output, recipe, FOLDER, shards, ReleaseOptions())


def write_tars(output: MemoryStorage, recipe: Recipe, numbers: Iterable[int]) -> None:
    """Do what another machine does, which knows the output and the recipe alone."""
    plan = read_plan(output, PLAN)
    target = Target(output, release_folder(plan.release), recipe.release)
    previous = (
        read_manifest(output, release_folder(plan.previous)) if plan.previous else None
    )
    reader = FilteredReader(output, FOLDER)
    with open_planned(target, plan) as target:
        for number in numbers:
            shard = read_planned_shard(output, plan, number, recipe.release)
            wanted = wanted_by(previous, reader)(shard)
            bring_shard(target, wanted)


@pytest.mark.parametrize("seed", [None, 5])
def test_each_tar_is_read_back_on_its_own(output: MemoryStorage, seed: int | None) -> None:
    recipe = small_recipe(shuffle_seed=seed)
    made = planned(output, recipe, "a", "b/c")
    written = write_plan(output, PLAN, made)
    plan = read_plan(output, PLAN)
    assert plan == written
    for shard in made.shards:
        read = read_planned_shard(output, plan, shard.number, recipe.release)
        names = read.samples.column_names
        assert read.samples.to_pylist() == shard.samples.select(names).to_pylist()
        assert (read.fingerprint, read.rows) == (shard.fingerprint, shard.rows)


def test_tars_that_other_machines_wrote_are_those_of_the_release(
    output: MemoryStorage,
) -> None:
    recipe = small_recipe(shuffle_seed=1)
    write_plan(output, PLAN, planned(output, recipe, "a", "b/c"))
    write_tars(output, recipe, [1])
    write_tars(output, recipe, [2])
    folder = release_folder("small-0001")
    before = {file.path: file.version for file in output.list_files(folder)}
    assert [path.rpartition("/")[2] for path in before if path.endswith(".tar")] == [
        "00001.tar",
        "00002.tar",
    ]
    made = released(output, recipe, "a", "b/c")
    after = {file.path: file.version for file in output.list_files(folder)}
    assert before.items() <= after.items()  # none was written again
    alone = MemoryStorage("alone")
    write_filtered(alone, "a", numbered(6))
    write_filtered(alone, "b/c", numbered(3))
    assert released(alone, recipe, "a", "b/c").shards == made.shards


def test_tars_of_the_release_before_are_shared(output: MemoryStorage) -> None:
    first = released(output, small_recipe(), "a")
    plan = write_plan(output, PLAN, planned(output, small_recipe(), "a", "b/c"))
    assert plan.previous == first.name
    output.delete(f"{FOLDER}/a.tar")  # so that it can't be written from there
    write_tars(output, small_recipe(), [0])
    assert plan.tars[0] == first.shards[0].fingerprint


def test_a_plan_of_other_settings_is_stale(output: MemoryStorage) -> None:
    plan = write_plan(output, PLAN, planned(output, small_recipe(), "a"))
    with pytest.raises(StaleError, match="00000 was planned with other settings"):
        read_planned_shard(output, plan, 0, small_recipe(npy=True).release)


def test_a_plan_that_is_made_again_meanwhile_is_stale(output: MemoryStorage) -> None:
    plan = write_plan(output, PLAN, planned(output, small_recipe(), "a"))
    write_plan(output, PLAN, planned(output, small_recipe(), "b/c", "a"))
    with pytest.raises(StaleError, match="it was made anew"):
        read_planned_shard(output, plan, 0, small_recipe().release)


def test_no_tar_of_a_published_release_is_written(output: MemoryStorage) -> None:
    write_plan(output, PLAN, planned(output, small_recipe(), "a"))
    made = released(output, small_recipe(), "b/c")
    with pytest.raises(ReleaseExistsError, match="small-0001"):
        write_tars(output, small_recipe(), [0])
    assert read_manifest(output, made.folder) == made


def test_where_nothing_is_new_the_plan_is_that_of_the_last_release(
    output: MemoryStorage,
) -> None:
    made = released(output, small_recipe(), "a")
    plan = write_plan(output, PLAN, planned(output, small_recipe(), "a"))
    assert (plan.release, plan.previous) == (made.name, None)
    before = output.list_files("releases")
    write_tars(output, small_recipe(), plan.tars)
    assert output.list_files("releases") == before


def test_no_plan_is_not_found(output: MemoryStorage) -> None:
    with pytest.raises(NotFoundError):
        read_plan(output, PLAN)
    assert FrozenPlan("p", "r", None, {}, {}).fingerprint
