"""The nightly schedule and its job."""

import shutil

import dagster as dg
import pytest

from curation.errors import InputError
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated
from tests.import_world import ImportWorld


def test_the_job_makes_what_is_missing(curated: Curated) -> None:
    shutil.rmtree(curated.output.root / "filtered")
    job = build_definitions(curated.recipe).resolve_job_def("nightly_curation")
    with open_instance(curated.recipe) as instance:
        assert job.execute_in_process(instance=instance).success
        assert len(curated.output.list_files("filtered")) == 9
        runs = instance.get_runs()
    assert {run.job_name for run in runs} >= {"nightly_curation", "__ASSET_JOB"}


def test_the_job_imports_first(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "photos").rename(importing.folder / "away")
    (importing.folder / "list.csv").unlink()
    job = build_definitions(importing.recipe).resolve_job_def("nightly_curation")
    with pytest.raises(InputError, match="nothing could be imported"):
        job.execute_in_process(instance=import_records)


def test_a_night_with_nothing_to_do_starts_no_run(curated: Curated) -> None:
    job = build_definitions(curated.recipe).resolve_job_def("nightly_curation")
    with open_instance(curated.recipe) as instance:
        before = len(instance.get_runs())
        assert job.execute_in_process(instance=instance).success
        assert len(instance.get_runs()) == before + 1


def test_schedule_and_sensor_are_off_until_they_are_turned_on(curated: Curated) -> None:
    curated.edit("machine:", "nightly_cron: '30 4 * * *'\nmachine:")
    definitions = build_definitions(curated.recipe)
    schedule = definitions.resolve_schedule_def("nightly_curation")
    assert schedule.cron_schedule == "30 4 * * *"
    assert schedule.default_status.value == "STOPPED"
    assert definitions.resolve_sensor_def("new_shards").default_status.value == "STOPPED"
