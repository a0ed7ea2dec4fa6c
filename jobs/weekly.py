"""The schedule that publishes what was curated since the last release."""

import dagster as dg

from curation.recipe import Recipe
from curation_assets.run_tags import BY_ITSELF
from jobs.release import make_release
from resources.progress import LineProgress


def weekly_release(recipe: Recipe) -> dg.ScheduleDefinition:
    """Define the schedule ``weekly_release``, with its job. It is off at first.

    Its job does what ``curate release`` does, on the same instance. It fails, and says so,
    where filtered shards are not up to date.
    """

    @dg.op(name="release_what_is_new")
    def release_what_is_new(context: dg.OpExecutionContext) -> None:
        progress = LineProgress(context.log.info)
        made = make_release(recipe, progress, instance=context.instance)
        context.log.info(f"{made.name} is published." if made else "Nothing is new.")

    @dg.job(
        name="weekly_release",
        description="Makes a release of what is new, as `curate release` does.",
    )
    def job() -> None:
        release_what_is_new()

    return dg.ScheduleDefinition(
        name="weekly_release",
        job=job,
        cron_schedule=recipe.release.cron,
        execution_timezone=recipe.timezone,
        tags=BY_ITSELF,
    )
