"""A recipe is checked by the core, and its schedules by Dagster's parser."""

import pytest

from curation import recipe_check
from curation.errors import InputError, UnknownNameError
from curation.recipe import Recipe
from jobs.recipe_check import CHECKS, check_recipe

RECIPE = Recipe(name="test", source="/data/raw", output="/data/made")


def test_schedules_are_checked_besides_what_the_core_checks() -> None:
    check_recipe(RECIPE)
    with pytest.raises(InputError, match="nightly_cron"):
        check_recipe(RECIPE.model_copy(update={"nightly_cron": "99 * * * *"}))
    with pytest.raises(UnknownNameError, match="widht"):
        check_recipe(RECIPE.model_copy(update={"filter": "widht > 3"}))
    assert {one.what for one in CHECKS} == {
        "schedules",
        *(one.what for one in recipe_check.CHECKS),
    }
