"""Two recipes in one instance are told by name, and neither goes by the other's records."""

from collections.abc import Iterator

import dagster as dg
import pytest

from curation.errors import InputError
from curation.recipe import Recipe
from curation.tables import FILTERED, read_table
from curation_assets.lineage import Lineage
from curation_assets.partitions import SHARDS
from curation_assets.records_owner import check_records, take_records
from jobs.commands.run import run_tables
from jobs.curate import curate
from jobs.definitions import build_definitions
from jobs.due_imports import tick as imports_tick
from jobs.instance import open_instance
from jobs.new_shards import tick
from jobs.plan import current_plan
from jobs.release import make_release
from jobs.summary import summarize
from resources.progress import LineProgress
from tests.conftest import Curated

A = Recipe(name="a", source="/nowhere", output="/out/a")
B = Recipe(name="b", source="/nowhere", output="/out/b")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_records_of_nobody_become_ones_own(instance: dg.DagsterInstance) -> None:
    check_records(instance, "a")
    assert take_records(instance, A) is None
    assert take_records(instance, A) is None
    check_records(instance, "a")


def test_those_of_another_are_refused_or_taken_over_by_name(
    instance: dg.DagsterInstance,
) -> None:
    take_records(instance, A)
    with pytest.raises(InputError, match=r"are of the recipe a \(output /out/a\), .* b"):
        check_records(instance, "b")
    told = str(take_records(instance, B))
    assert "were of the recipe a (output /out/a)" in told
    assert "DAGSTER_HOME" in told
    with pytest.raises(InputError, match="recipe b"):
        check_records(instance, "a")


def test_an_output_that_was_moved_is_none_of_another(instance: dg.DagsterInstance) -> None:
    take_records(instance, A)
    moved = A.model_copy(update={"output": "/elsewhere"})
    check_records(instance, moved.name)
    assert take_records(instance, moved) is None


@pytest.fixture
def other(curated: Curated) -> Recipe:
    """Give a recipe of another name and source with the records of the curated one."""
    return curated.recipe.model_copy(
        update={"name": "other", "source": str(curated.folder / "raw" / "train")}
    )


def test_nothing_that_runs_by_itself_goes_on_with_records_of_another(
    curated: Curated, other: Recipe
) -> None:
    with open_instance(other) as instance:
        before = instance.get_dynamic_partitions(SHARDS.name or "")
        for result in (tick(instance, other, None), imports_tick(instance, other)):
            assert "are of the recipe small (output " in str(result.skip_reason)
            assert not result.run_requests
            assert not result.dynamic_partitions_requests
        code = build_definitions(other).get_repository_def()
        nightly = code.get_job("nightly_curation").execute_in_process(
            instance=instance, raise_on_error=False
        )
        assert not nightly.success
        step = code.get_job("__ASSET_JOB").execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("raw_shard")],
            partition_key="train/00001",
            raise_on_error=False,
        )
        (failure,) = [e for e in step.all_events if e.is_step_failure]
        assert "recipe small" in str(failure.step_failure_data.user_failure_data)
        with pytest.raises(InputError, match="recipe small"):
            make_release(other, LineProgress(print), instance=instance)
        assert instance.get_dynamic_partitions(SHARDS.name or "") == before


def test_the_command_takes_them_over_says_so_and_makes_what_is_not_its_own(
    curated: Curated,
) -> None:
    """What the first recipe decides now is what the second one decided in its records."""
    path = curated.artifacts.embeddings("00000")
    embedded = curated.output.stat(path)
    first = curated.recipe.model_copy(update={"filter": "width >= 300"})
    second = first.model_copy(update={"name": "b"})
    curate(curated.recipe, LineProgress(print))  # has the records
    result = curate(second, LineProgress(print))
    assert "were of the recipe small (output " in str(result.taken_over)
    assert run_tables(second, summarize(second, []), result)[0] == result.taken_over
    assert "were of the recipe b" in str(curate(first, LineProgress(print)).taken_over)
    with open_instance(first) as instance:
        assert current_plan(instance, Lineage(first)).is_empty
    tables = curated.output.list_files("filtered/small", suffix=".parquet")
    kept = [read_table(curated.output, table.path, FILTERED)["width"] for table in tables]
    assert min(width for widths in kept for width in widths.to_pylist()) >= 300
    assert curated.output.stat(path) == embedded  # was found, and not made again
