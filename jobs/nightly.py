"""The schedule that brings everything up to date, failed shards too, once a night."""

import dagster as dg

from curation.recipe import Recipe
from curation_assets.records_owner import check_records
from curation_assets.run_tags import BY_ITSELF
from jobs.arrivals import find_arrivals, tell_waiting
from jobs.curate import curate, tell_set_aside
from jobs.imports import bring_imports
from jobs.troubles import current_troubles
from resources.progress import LineProgress


def nightly_curation(recipe: Recipe) -> dg.ScheduleDefinition:
    """Define the schedule ``nightly_curation``, with its job. It is off at first.

    Its job does what ``curate run`` does: each step is a run of its own on the same
    instance, so that it shows in the UI like any other.
    """

    @dg.op(name="bring_up_to_date")
    def bring_up_to_date(context: dg.OpExecutionContext) -> None:
        progress, instance = LineProgress(context.log.info), context.instance
        check_records(instance, recipe.name)
        result = bring_imports(recipe, progress, instance=instance)
        result += curate(recipe, progress, instance=instance)
        if result.set_aside:
            context.log.info(tell_set_aside(recipe, result.set_aside))
        if result.waiting:
            context.log.info(tell_waiting(recipe, result.waiting))
        elif not result.num_runs:
            context.log.info("Everything was up to date: there was nothing to do.")
        there = find_arrivals(instance, recipe)
        troubles = current_troubles(recipe, there.tars, there.troubles, instance)
        for trouble in troubles:
            context.log.warning(f"{trouble.shard}: {trouble.what}. {trouble.advice}")
        failed = dict(result.failed)
        failed |= {t.shard: t.what for t in troubles if t.severity in ("lost", "wrong")}
        if failed:
            told = "".join(f"\n  {s}: {why}" for s, why in failed.items())
            raise dg.Failure(f"{len(failed)} shard(s) or import(s) failed:{told}")

    @dg.job(
        name="nightly_curation",
        description="Makes all that is missing, stale or failed, as `curate run` does.",
    )
    def job() -> None:
        bring_up_to_date()

    return dg.ScheduleDefinition(
        name="nightly_curation",
        job=job,
        cron_schedule=recipe.nightly_cron,
        execution_timezone=recipe.timezone,
        tags=BY_ITSELF,
    )
