"""``curate status``: what is made, what is due, and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from curation.recipe import Recipe, load_recipe
from curation_assets.lineage import GLOBAL_ASSETS, Lineage
from jobs.arrivals import Arrivals, find_arrivals, tell_waiting
from jobs.console import print_json, print_result, result_table
from jobs.imports import due_imports
from jobs.instance import open_instance
from jobs.options import JsonOption, RecipeOption
from jobs.output_files import output_files, stray_shards
from jobs.plan import Causes, Plan, make_plan
from jobs.recipe_check import check_recipe
from jobs.troubles import current_troubles, trouble_tables

MOST_CAUSES = 3  # of one asset that are shown


def status(recipe: RecipeOption = Path("recipe.yaml"), as_json: JsonOption = False) -> None:
    """Show what is missing or stale, and why, and what is wrong. Runs nothing."""
    settings = load_recipe(recipe)
    check_recipe(settings)
    lineage = Lineage(settings)
    with open_instance(settings) as instance:
        imports = due_imports(instance, lineage)
        arrivals = find_arrivals(instance, settings)
        files = output_files(lineage, instance)
        strays = stray_shards(lineage, files, arrivals)
        plan = make_plan(instance, lineage, arrivals.versions, files, strays)
        troubles = current_troubles(settings, arrivals.tars, arrivals.troubles, instance)
    causes: dict[str, dict[str, str]] = {asset: {} for asset in lineage.imports}
    for one in imports:
        causes[one.asset][one.name] = one.cause
    if as_json:
        due = {"imports": causes, "due": plan.due, "global_due": plan.global_due}
        told = {"troubles": [asdict(trouble) for trouble in troubles]}
        print_json(
            {"shards": len(arrivals.tars), "waiting": arrivals.waiting, **due, **told}
        )
        return
    print_result(*_tables(settings, causes, plan, arrivals), *trouble_tables(troubles))


def _tables(
    recipe: Recipe, imports: Mapping[str, Causes], plan: Plan, arrivals: Arrivals
) -> list[Table | str]:
    lineage, num_shards = Lineage(recipe), len(arrivals.versions)
    rows: list[tuple[Any, ...]] = []
    for asset, causes in imports.items():
        made = len(lineage.import_inputs(asset)) - len(causes)
        told = [f"{name}: {cause}" for name, cause in causes.items()]
        rows.append((asset, made, len(causes), _told(told)))
    for asset, causes in plan.due.items():
        rows.append((asset, num_shards - len(causes), len(causes), _told(causes.values())))
    for asset in [a for a in lineage.assets if a in GLOBAL_ASSETS]:
        cause = plan.global_due.get(asset)
        rows.append((asset, int(cause is None), int(cause is not None), cause or ""))
    title = f"{recipe.name}: {len(arrivals.tars)} shards in {recipe.shown_source}"
    after = [tell_waiting(recipe, arrivals.waiting)] if arrivals.waiting else []
    if not plan.is_empty or any(imports.values()):
        after.append("`curate run` makes what is due, and what follows from it.")
    elif not after:
        after = ["Everything is up to date."]
    return [result_table(title, ("asset", "made", "due", "because"), rows), *after]


def _told(causes: Any) -> str:
    counts = Counter(causes).most_common()
    told = [f"{cause} ({count})" for cause, count in counts[:MOST_CAUSES]]
    return ", ".join(told + ["…"] * (len(counts) > MOST_CAUSES))
