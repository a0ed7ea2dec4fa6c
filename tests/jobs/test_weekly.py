"""The weekly schedule and its job."""

from curation.release.manifest import list_releases
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated


def test_the_job_makes_a_release_of_what_is_new_and_only_of_that(curated: Curated) -> None:
    job = build_definitions(curated.recipe).resolve_job_def("weekly_release")
    with open_instance(curated.recipe) as instance:
        assert job.execute_in_process(instance=instance).success
        assert job.execute_in_process(instance=instance).success
    assert [made.name for made in list_releases(curated.output)] == ["small-0001"]


def test_it_fails_where_something_is_not_up_to_date(curated: Curated) -> None:
    curated.edit(">= 200", ">= 300")
    job = build_definitions(curated.recipe).resolve_job_def("weekly_release")
    with open_instance(curated.recipe) as instance:
        done = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not done.success
    assert list_releases(curated.output) == []


def test_the_schedule_is_off_until_it_is_turned_on(curated: Curated) -> None:
    curated.edit("machine:", "release: {cron: '30 4 * * 2'}\nmachine:")
    schedule = build_definitions(curated.recipe).resolve_schedule_def("weekly_release")
    assert schedule.cron_schedule == "30 4 * * 2"
    assert schedule.default_status.value == "STOPPED"
