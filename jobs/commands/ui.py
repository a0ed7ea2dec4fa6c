"""``curate ui``: Dagster's UI on the recipe's instance."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from curation.recipe import load_recipe
from curation_assets.records_owner import check_records
from jobs.arrivals import find_arrivals
from jobs.definitions import RECIPE_VARIABLE
from jobs.instance import ROOT, dagster_home, limit_gpu_runs, open_instance, set_shards
from jobs.options import RecipeOption
from jobs.recipe_check import check_recipe


def ui(
    recipe: RecipeOption = Path("recipe.yaml"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
) -> None:
    """Browse what was made, inspect lineage and start backfills, in a browser."""
    settings = load_recipe(recipe)
    check_recipe(settings)
    with open_instance(settings) as instance:
        check_records(instance, settings.name)
        if shards := find_arrivals(instance, settings).versions:
            set_shards(instance, shards)
        limit_gpu_runs(instance)
    os.environ["DAGSTER_HOME"] = str(dagster_home(settings))
    os.environ[RECIPE_VARIABLE] = str(recipe.absolute())
    os.chdir(ROOT)  # workspace.yaml is there
    dagster = ["-m", "dagster", "dev", "-w", "workspace.yaml", "-h", host, "-p", str(port)]
    os.execv(sys.executable, [sys.executable, *dagster])
