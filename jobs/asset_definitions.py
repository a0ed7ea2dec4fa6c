"""The assets of a recipe with their resources: what can be made, without what starts it.

The command executes these in its own process; ``definitions.py`` adds what starts runs by
itself, and is what Dagster loads.
"""

import warnings
from functools import partial
from typing import Any

import dagster as dg

from curation.recipe import Recipe
from curation_assets.caption_embeddings import caption_embeddings_asset
from curation_assets.centroids import centroids_asset
from curation_assets.checks import define_checks
from curation_assets.cluster_bins import cluster_bins_asset
from curation_assets.duplicate_groups import duplicate_groups_asset
from curation_assets.duplicates import duplicates_asset
from curation_assets.embeddings import embeddings_asset
from curation_assets.filter_cuts import filter_cuts_asset
from curation_assets.filtered_shard import filtered_shard_asset
from curation_assets.imported_images import imported_images_asset
from curation_assets.imported_urls import few_urls_failed_check, imported_urls_asset
from curation_assets.lineage import Lineage
from curation_assets.parity_check import parity_check
from curation_assets.raw_shard import raw_shard_asset
from curation_assets.release import release_asset
from curation_assets.release_plan import release_plan_asset
from curation_assets.release_shard import release_shard_asset
from curation_assets.scores import scores_asset
from curation_assets.selection import selection_asset
from curation_assets.shard_index import shard_index_asset
from jobs.plan import filtered_shards_due
from jobs.recipe_check import check_recipe
from resources.recipe_resources import recipe_resources

ASSETS = {
    "imported_images": imported_images_asset,
    "imported_urls": imported_urls_asset,
    "raw_shard": raw_shard_asset,
    "shard_index": shard_index_asset,
    "embeddings": embeddings_asset,
    "caption_embeddings": caption_embeddings_asset,
    "scores": scores_asset,
    "duplicate_groups": duplicate_groups_asset,
    "duplicates": duplicates_asset,
    "filter_cuts": filter_cuts_asset,
    "selection": selection_asset,
    "filtered_shard": filtered_shard_asset,
}
"""What defines each asset that is brought up to date by itself."""


def asset_definitions(recipe: Recipe, **overrides: Any) -> dg.Definitions:
    """Assemble the assets of a recipe, and their resources.

    Args:
        recipe: What to curate, and how.
        overrides: Resources to use in place of the recipe's, by name: core objects, or
            resources that make them.

    Raises:
        InputError: The parts of the recipe don't fit each other.
    """
    check_recipe(recipe)
    lineage = Lineage(recipe)
    with warnings.catch_warnings():
        # backfill policies and pools are beta in Dagster 1.13; the design rests on them
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [ASSETS[name](lineage) for name in (*lineage.imports, *lineage.assets)]
        if recipe.duplicates.min_similarity is not None:
            assets += [centroids_asset(lineage), cluster_bins_asset(lineage)]
        assets += release_assets(lineage)
    return dg.Definitions(
        assets=assets,
        asset_checks=_checks(lineage),
        resources={**recipe_resources(recipe), **overrides},
        executor=dg.in_process_executor,  # the model is loaded once for all steps of a run
    )


def _checks(lineage: Lineage) -> list[dg.AssetChecksDefinition]:
    checks = [*define_checks(lineage), parity_check(lineage)]
    if "imported_urls" in lineage.imports:
        checks.append(few_urls_failed_check(lineage))
    return checks


def release_assets(lineage: Lineage) -> list[dg.AssetsDefinition]:
    """Define the assets that are made when asked: they are no part of what is due."""
    find_due = partial(filtered_shards_due, lineage)
    return [
        release_plan_asset(lineage, find_due),
        release_shard_asset(lineage),
        release_asset(lineage, find_due),
    ]
