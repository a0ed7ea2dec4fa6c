"""The code location: assets, named jobs over them, and what starts runs by itself.

Belongs here: assembly. Dagster finds ``defs``, which reads the recipe that the variable
``CURATION_RECIPE`` names (``recipe.yaml`` of the working directory if it is unset) when
the code location is loaded, and not on import.
"""

import os
from typing import Any

import dagster as dg

from curation.recipe import Recipe, load_recipe
from jobs.asset_definitions import asset_definitions
from jobs.asset_jobs import asset_jobs
from jobs.due_imports import due_imports_sensors
from jobs.failure_causes import failure_causes_sensor
from jobs.new_shards import new_shards_sensor
from jobs.nightly import nightly_curation
from jobs.weekly import weekly_release

RECIPE_VARIABLE = "CURATION_RECIPE"
DEFAULT_RECIPE = "recipe.yaml"


def build_definitions(recipe: Recipe, **overrides: Any) -> dg.Definitions:
    """Assemble everything that Dagster is to know for one recipe.

    Args:
        recipe: What to curate, and how.
        overrides: Resources to use in place of the recipe's, by name: core objects, or
            resources that make them.

    Raises:
        InputError: The parts of the recipe don't fit each other.
    """
    jobs = asset_jobs(recipe)
    automation = dg.Definitions(
        jobs=jobs,
        sensors=[
            *due_imports_sensors(recipe, jobs),
            new_shards_sensor(recipe),
            failure_causes_sensor(),
        ],
        schedules=[nightly_curation(recipe), weekly_release(recipe)],
    )
    return dg.Definitions.merge(asset_definitions(recipe, **overrides), automation)


@dg.definitions
def defs() -> dg.Definitions:
    """Load the code location: what ``dagster dev`` and ``workspace.yaml`` find."""
    return build_definitions(load_recipe(os.environ.get(RECIPE_VARIABLE, DEFAULT_RECIPE)))
