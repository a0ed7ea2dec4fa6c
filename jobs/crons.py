"""When schedules run: cron expressions that Dagster takes, and that come about at all.

Dagster checks an expression when the code location is loaded, which then fails as a whole,
or when the daemon looks for the next time. So its own parser checks them beforehand.
"""

import time
from collections.abc import Mapping

from dagster._utils.schedules import (
    cron_string_iterator,
    has_out_of_range_cron_interval,
    is_valid_cron_string,
)

from curation.errors import InputError
from curation.recipe import Recipe


def crons_of(recipe: Recipe) -> Mapping[str, str]:
    """Give the cron expression of each setting that is one."""
    return {"nightly_cron": recipe.nightly_cron, "release.cron": recipe.release.cron}


def check_crons(recipe: Recipe) -> None:
    """Check that every schedule has times to run at.

    Raises:
        InputError: An expression is none that Dagster takes, or is never true.
    """
    for setting, cron in crons_of(recipe).items():
        if fault := _fault(cron, recipe.timezone):
            raise InputError(
                f"{setting}: {cron!r} {fault}; write minute (0-59), hour (0-23), day "
                "(1-31), month (1-12) and weekday (0-6, 0 is Sunday), such as '30 2 * * 1' "
                f"for Mondays at 2:30 in {recipe.timezone}, which `timezone` sets"
            )


def _fault(cron: str, timezone: str) -> str | None:
    try:
        if not is_valid_cron_string(cron):
            return "is no cron expression of five fields in their ranges"
        if has_out_of_range_cron_interval(cron):
            return "has a step that is longer than its field"
        next(cron_string_iterator(time.time(), cron, timezone))
    except Exception as error:  # its parser raises whatever it comes to
        return f"comes about at no time: {error}"
    return None
