"""The sensor ``due_imports``, tick by tick, on real files and a real instance."""

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from curation.processes import this_process
from curation.recipe import Recipe
from jobs.dead_runs import PROCESS
from jobs.definitions import build_definitions
from jobs.due_imports import tick
from tests.import_world import ImportWorld, materialized


def test_what_is_due_is_asked_for_under_one_key_and_what_it_asks_for_runs(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    definitions = build_definitions(importing.recipe)
    repository = definitions.get_repository_def()
    context = dg.build_sensor_context(
        instance=import_records, repository_def=repository, sensor_name="due_imports"
    )
    asked = repository.get_sensor_def("due_imports").evaluate_tick(context).run_requests
    assert asked is not None
    assert [(one.job_name, one.partition_key) for one in asked] == [
        ("import_images", "photos"),
        ("import_urls", "web"),
    ]
    again = tick(import_records, importing.recipe).run_requests or []
    assert [one.run_key for one in again] == [one.run_key for one in asked]
    for one in asked:
        job = definitions.resolve_job_def(one.job_name or "")
        job.execute_in_process(instance=import_records, partition_key=one.partition_key)
    assert materialized(import_records, "imported_images", "imported_urls") == [
        "photos",
        "web",
    ]
    result = tick(import_records, importing.recipe)
    assert not result.run_requests
    assert "everything is imported" in str(result.skip_reason)
    importing.list_urls("/image/4")
    (changed,) = tick(import_records, importing.recipe).run_requests or []
    assert changed.run_key not in [one.run_key for one in asked]


@pytest.mark.parametrize(
    "run",
    [
        {"job_name": "import_urls", "tags": {"dagster/partition": "web"}},
        {
            "asset_selection": frozenset({dg.AssetKey("imported_urls")}),
            "tags": {
                "dagster/asset_partition_range_start": "web",
                "dagster/asset_partition_range_end": "web",
            },
        },
    ],
)
def test_what_is_being_imported_is_not_asked_for(
    importing: ImportWorld, import_records: dg.DagsterInstance, run: dict[str, object]
) -> None:
    create_run_for_test(import_records, status=dg.DagsterRunStatus.STARTED, **run)  # type: ignore[arg-type]
    asked = tick(import_records, importing.recipe).run_requests or []
    assert [one.partition_key for one in asked] == ["photos"]


def test_what_was_being_imported_by_a_process_that_is_gone_is_asked_for(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    system, number, begun = this_process().rsplit("/", 2)
    tags = {
        "dagster/partition": "web",
        PROCESS: f"{system}/{number}/{int(begun) - 1}",  # it had the same number
    }
    create_run_for_test(
        import_records,
        status=dg.DagsterRunStatus.STARTED,
        job_name="import_urls",
        tags=tags,
    )
    asked = tick(import_records, importing.recipe).run_requests or []
    assert [one.partition_key for one in asked] == ["photos", "web"]


def test_tars_that_are_deleted_again_are_imported_again(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    job = build_definitions(importing.recipe).resolve_job_def("import_images")
    keys = set()
    for _ in range(3):
        asked = tick(import_records, importing.recipe).run_requests or []
        keys |= {one.run_key for one in asked if one.partition_key == "photos"}
        job.execute_in_process(instance=import_records, partition_key="photos")
        (importing.folder / "raw" / "photos" / "00000.tar").unlink()
    assert len(keys) == 3


def test_an_import_that_failed_is_put_off_and_told_until_its_list_changes(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    job = build_definitions(importing.recipe).resolve_job_def("import_urls")
    asked = tick(import_records, importing.recipe).run_requests or []
    (request,) = [one for one in asked if one.partition_key == "web"]
    listed, away = importing.folder / "list.csv", importing.folder / "away.csv"
    listed.rename(away)  # so that the run fails
    job.execute_in_process(
        instance=import_records,
        partition_key="web",
        tags=request.tags,
        raise_on_error=False,
    )
    away.rename(listed)
    told: list[str] = []
    left = tick(import_records, importing.recipe, told.append).run_requests or []
    assert [one.partition_key for one in left] == ["photos"]
    assert "the last run failed: web (run " in told[0]
    importing.list_urls("/image/7")
    changed = tick(import_records, importing.recipe).run_requests or []
    assert [one.partition_key for one in changed] == ["photos", "web"]


def test_an_input_that_is_not_there_is_told_and_starts_nothing(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "list.csv").unlink()
    recipe = importing.edit("photos: {folder: photos", "photos: {list: photos.csv")
    result = tick(import_records, recipe)
    assert not result.run_requests
    assert "photos.csv" in str(result.skip_reason)
    assert "list.csv" in str(result.skip_reason)


def test_a_recipe_without_imports_has_no_such_sensor() -> None:
    recipe = Recipe(name="none", source="/nowhere", output="/elsewhere")
    names = [sensor.name for sensor in build_definitions(recipe).sensors or []]
    assert names == ["new_shards", "failure_causes"]
