"""A run is launched for one recipe, and executed by whoever loads the code next.

A code location that has been running for days knows the recipe as it was; the run that it
launches loads the file as it is. Were it edited in between, a run would make something
else than what was asked for, under versions that nobody planned. So every step carries the
hash of the recipe that it was launched with, and refuses to be executed with another.
"""

import dagster as dg

from curation.errors import InputError
from curation_assets.lineage import Lineage
from curation_assets.records_owner import check_records
from curation_assets.run_tags import RECIPE

RECIPE_TAG = "curation/recipe_version"


def recipe_tags(lineage: Lineage) -> dict[str, str]:
    """Give the tags of a step, by which Dagster remembers its recipe with the run."""
    return {RECIPE_TAG: lineage.recipe_version, RECIPE: lineage.recipe.name}


def refuse_another_recipe(context: dg.AssetExecutionContext) -> None:
    """Fail if a run is not for the recipe that is loaded, or the records are not of it.

    Raises:
        dagster.Failure: It was launched for another one, or the instance's records are of
            another; the message says what to do.
    """
    try:
        check_records(context.instance, context.op_def.tags[RECIPE])
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    snapshot = context.run.job_snapshot_id
    if snapshot is None:
        return
    steps = context.instance.get_job_snapshot(snapshot).node_defs_snapshot.op_def_snaps
    launched = {step.name: step.tags.get(RECIPE_TAG) for step in steps}
    if launched.get(context.op_def.name) != context.op_def.tags.get(RECIPE_TAG):
        raise dg.Failure(
            "the recipe, or a file that it names, was edited after this run was launched "
            "for it; nothing was made. Reload the code location (Deployment, Reload) and "
            "launch the run again",
            allow_retries=False,
        )
