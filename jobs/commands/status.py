"""``curate status``: what is made, what is due, and why."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from curation.recipe import Recipe, load_recipe
from curation.storage import open_storage
from curation_assets.lineage import GLOBAL_ASSETS, Lineage
from curation_assets.partitions import list_shards
from jobs.console import print_json, print_result, result_table
from jobs.instance import open_instance
from jobs.options import JsonOption, RecipeOption
from jobs.plan import Plan, current_plan
from jobs.recipe_check import check_recipe

MOST_CAUSES = 3  # of one asset that are shown


def status(recipe: RecipeOption = Path("recipe.yaml"), as_json: JsonOption = False) -> None:
    """Show which shards of which asset are missing or stale, and why. Runs nothing."""
    settings = load_recipe(recipe)
    check_recipe(settings)
    tars = list_shards(open_storage(settings.source, settings.s3))
    plan = find_plan(settings)
    if as_json:
        print_json({"shards": len(tars), "due": plan.due, "global_due": plan.global_due})
        return
    print_result(*_tables(settings, plan, len(tars)))


def find_plan(recipe: Recipe) -> Plan:
    """Compare what should be with what is on record and in the output."""
    with open_instance(recipe) as instance:
        return current_plan(instance, Lineage(recipe))


def _tables(recipe: Recipe, plan: Plan, num_shards: int) -> list[Table | str]:
    rows: list[tuple[Any, ...]] = []
    for asset, causes in plan.due.items():
        rows.append((asset, num_shards - len(causes), len(causes), _told(causes.values())))
    for asset in [a for a in Lineage(recipe).assets if a in GLOBAL_ASSETS]:
        cause = plan.global_due.get(asset)
        rows.append((asset, int(cause is None), int(cause is not None), cause or ""))
    title = f"{recipe.name}: {num_shards} shards in {recipe.source}"
    after = (
        "Everything is up to date."
        if plan.is_empty
        else "`curate run` makes what is due, and what follows from it."
    )
    return [result_table(title, ("asset", "made", "due", "because"), rows), after]


def _told(causes: Any) -> str:
    counts = Counter(causes).most_common()
    told = [f"{cause} ({count})" for cause, count in counts[:MOST_CAUSES]]
    return ", ".join(told + ["…"] * (len(counts) > MOST_CAUSES))
