"""``curate costs``: what embedding has cost so far."""

from pathlib import Path

from curation.recipe import load_recipe
from jobs.console import print_json, print_result, result_table
from jobs.costs import sum_costs
from jobs.instance import open_instance
from jobs.options import JsonOption, RecipeOption

COLUMNS = ("recipe", "encoder", "device", "runs", "shards", "images", "device hours")


def costs(recipe: RecipeOption = Path("recipe.yaml"), as_json: JsonOption = False) -> None:
    """Sum up the hours that runs held devices, and what they embedded in them."""
    with open_instance(load_recipe(recipe)) as instance:
        found = sum_costs(instance)
    if as_json:
        print_json([cost.as_json() for cost in found])
        return
    rows = [
        (
            cost.recipe,
            cost.encoder,
            cost.device,
            cost.num_runs,
            cost.num_shards,
            cost.num_images,
            f"{cost.device_seconds / 3600:.2f}",
        )
        for cost in found
    ]
    print_result(result_table("", COLUMNS, rows))
