"""Cron expressions: refused are those that Dagster can't take, or finds no time for."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from curation.errors import InputError
from curation.recipe import Recipe, load_recipe
from jobs.crons import check_crons
from jobs.recipe_check import check_recipe
from jobs.weekly import weekly_release

GOOD = [
    "0 2 * * *",
    "@daily",
    "0 0 29 2 *",
    "0 2 * * mon",
    "0 2 * * 7",
    "*/15 8-18 * * 1-5",
]
BAD = [
    "99 * * * *",
    "0 24 * * *",
    "0 2 * * 8",
    "0 0 0 * *",
    "* * * *",
    "0 2 * * * *",
    "",
    "every night",
    "*/0 * * * *",
    "*/90 * * * *",
    "@reboot",
    "0 0 30 2 *",
    "0 0 31 4 *",
    "0 0 31 4,6,9,11 *",
]


def recipe_with(cron: str, timezone: str = "UTC") -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "source": "/nowhere",
            "output": "/elsewhere",
            "release": {"cron": cron},
            "timezone": timezone,
        }
    )


@pytest.mark.parametrize("cron", GOOD)
def test_what_dagster_finds_times_for_is_taken(cron: str) -> None:
    recipe = recipe_with(cron, "Europe/Berlin")
    check_crons(recipe)
    schedule = weekly_release(recipe)
    assert schedule.execution_timezone == "Europe/Berlin"
    assert next(_times(schedule))


def _times(schedule: dg.ScheduleDefinition) -> Iterator[datetime]:
    """Give the times at which Dagster's daemon would start it."""
    return schedule_execution_time_iterator(
        0, schedule.cron_schedule, schedule.execution_timezone
    )


@pytest.mark.parametrize("cron", BAD)
def test_what_it_does_not_is_refused_by_the_name_of_the_setting(cron: str) -> None:
    with pytest.raises(InputError, match=r"release\.cron: .* write minute \(0-59\)"):
        check_recipe(recipe_with(cron))
    nightly = recipe_with("0 2 * * *").model_copy(update={"nightly_cron": cron})
    with pytest.raises(InputError, match="nightly_cron: "):
        check_recipe(nightly)


def test_times_are_those_of_the_time_zone() -> None:
    schedule = weekly_release(recipe_with("30 2 * * *", "Asia/Kolkata"))
    first = next(_times(schedule)).astimezone(ZoneInfo("Asia/Kolkata"))
    assert (first.hour, first.minute) == (2, 30)


@pytest.mark.parametrize(
    "name", ["Europe/Berlim", "berlin", "", "../etc", "/etc/localtime", "Europe", "UTC+2"]
)
def test_a_time_zone_that_is_none_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: a\nsource: raw\noutput: out\ntimezone: '{name}'\n")
    with pytest.raises(InputError, match=r":4: timezone: .*time zone"):
        load_recipe(file)
