"""The checks of a recipe, with those that only Dagster's own parsers can make.

Belongs here: nothing that the core can check, which is in ``curation/recipe_check.py``.
"""

from curation import recipe_check
from curation.recipe import Recipe
from curation.recipe_check import Check, check_ready
from jobs.crons import check_crons

__all__ = ["CHECKS", "check_ready", "check_recipe"]

CHECKS = (Check("schedules", None, check_crons), *recipe_check.CHECKS)
"""All that can be wrong with a recipe and the machine."""


def check_recipe(recipe: Recipe) -> None:
    """Check that the parts of a recipe fit each other. No file is read.

    Raises:
        UnknownNameError, InputError: As :func:`curation.recipe_check.check_recipe`; or a
            schedule has no times.
    """
    check_crons(recipe)
    recipe_check.check_recipe(recipe)
