"""The numbers behind ``top_fraction`` and its like: cuts over the samples of all shards.

Only recipes whose filter has such cuts have this asset. Its data version is the numbers
themselves: shards that come and leave them as they are make no selection stale.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from curation.errors import NotFoundError, StaleError
from curation.filters import Filter, make_filter
from curation.fingerprint import Json, fingerprint
from curation.selection import find_cuts, judged_samples, needed_facts, needed_scores
from curation.storage import Storage
from curation.tables import (
    DUPLICATES,
    EMBEDDINGS,
    SCORES,
    made_of_something_else,
    read_table,
)
from curation.texts import load_json
from curation_assets.failures import run_failures
from curation_assets.global_asset import (
    MADE_OF,
    all_shard_deps,
    current_inputs,
    made_of,
    refuse_company,
)
from curation_assets.lineage import Lineage
from curation_assets.recipe_guard import recipe_tags, refuse_another_recipe
from curation_assets.shard_asset import SETTINGS

if TYPE_CHECKING:
    import polars as pl


def filter_cuts_asset(lineage: Lineage) -> dg.AssetsDefinition:
    """Define ``filter_cuts`` for a recipe whose filter has cuts."""
    filter_ = make_filter(lineage.recipe.filter)

    @dg.asset(
        name="filter_cuts",
        deps=all_shard_deps(lineage, "filter_cuts"),
        code_version=lineage.code_version("filter_cuts"),
        op_tags=recipe_tags(lineage),
        group_name="decision",
        kinds={"polars"},
        description="The values that the filter's fractions and percentiles come to over "
        "all samples that are not quarantined. Exact: every value is looked at.",
    )
    def filter_cuts(
        context: dg.AssetExecutionContext, output: dg.ResourceParam[Storage]
    ) -> dg.MaterializeResult[None]:
        refuse_another_recipe(context)
        with run_failures():
            refuse_company(context)
            inputs = current_inputs(context.instance, lineage, "filter_cuts")
            shards = sorted(inputs["scores"])
            values = find_cuts(filter_, _judged(output, lineage, filter_, shards))
            path = lineage.artifacts.filter_cuts
            output.write(path, json.dumps(values, sort_keys=True).encode())
        return dg.MaterializeResult(
            data_version=dg.DataVersion(cuts_version(values)),
            metadata={
                MADE_OF: made_of(lineage, "filter_cuts", inputs),
                SETTINGS: lineage.recipe_settings("filter_cuts"),
                "shards": len(shards),
                **{text: value for text, value in values.items() if value is not None},
            },
        )

    return filter_cuts


def cuts_version(values: Json) -> str:
    """Give the data version of the values of a filter's cuts."""
    return fingerprint("filter_cuts", values)


def bound_filter(output: Storage, lineage: Lineage, made_of: str | None = None) -> Filter:
    """Give the recipe's filter with the values of its cuts, if it has any.

    Args:
        output: Where they are.
        lineage: Of the recipe.
        made_of: The data version that they must have; None if any will do.

    Raises:
        StaleError: They were not found yet, or for another filter.
    """
    filter_ = make_filter(lineage.recipe.filter)
    if not filter_.cuts:
        return filter_
    try:
        values = read_cuts(output, lineage.artifacts.filter_cuts)
    except NotFoundError as error:
        raise StaleError(f"{error}; materialize filter_cuts first") from error
    if made_of not in (None, cuts_version(values)):
        raise made_of_something_else(output, lineage.artifacts.filter_cuts)
    if set(values) != {cut.text for cut in filter_.cuts}:
        raise StaleError("the filter has other cuts now; materialize filter_cuts again")
    return filter_.bind(values)


def read_cuts(output: Storage, path: str) -> dict[str, float | None]:
    """Read the values of a filter's cuts, by their texts.

    Raises:
        NotFoundError: There is no such file.
        StaleError: It is something else.
    """
    try:
        values = load_json(output.read(path))
        return {cut: None if v is None else float(v) for cut, v in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise StaleError(
            f"{output.url}/{path}: not the values of a filter's cuts ({error}); "
            "materialize filter_cuts again"
        ) from error


def _judged(
    output: Storage, lineage: Lineage, filter_: Filter, shards: list[str]
) -> Iterator["pl.DataFrame"]:
    path = lineage.artifacts
    for shard in shards:
        yield judged_samples(
            read_table(output, path.embeddings(shard), EMBEDDINGS, needed_facts(filter_)),
            read_table(output, path.scores(shard), SCORES, needed_scores(filter_)),
            read_table(output, path.duplicates(shard), DUPLICATES),
            filter_,
        )
