"""What a recipe decides, worked out in memory from the tables that are there.

Nothing is written and no image is opened, so that a threshold can be tried, and two
recipes compared, before anything is made by them. The cuts of ``top_fraction`` and its
like are found anew for the same reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.errors import NotFoundError, StaleError
from curation.filters import Filter, make_filter
from curation.recipe import Recipe
from curation.selection import (
    DUPLICATE_COLUMNS,
    find_cuts,
    judged_samples,
    needed_facts,
    needed_scores,
    select_samples,
)
from curation.storage import open_storage
from curation.tables import DUPLICATES
from curation_assets.current_tables import CurrentTables
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards
from jobs.recipe_check import check_recipe

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ShardTables:
    """What one shard is judged by: of each table, the columns that the filter names."""

    facts: pa.Table
    scores: pa.Table
    duplicates: pa.Table


@dataclass(frozen=True)
class Decided:
    """A filter, with its cuts bound, and the samples that it judges."""

    filter: Filter
    shards: dict[str, ShardTables]
    """Of the shards that can be judged."""
    missing: tuple[str, ...]
    """Shards that can't, since they were not scored, or not compared, yet."""

    @cached_property
    def samples(self) -> dict[str, "pl.DataFrame"]:
        """Give ``selection.judged_samples`` of each shard."""
        return {shard: _judged(of, self.filter) for shard, of in self.shards.items()}

    @cached_property
    def selections(self) -> dict[str, pa.Table]:
        """Give the table of :data:`curation.tables.SELECTION` of each shard."""
        return {
            shard: select_samples(of.facts, of.scores, of.duplicates, self.filter)
            for shard, of in self.shards.items()
        }


def decide(
    recipe: Recipe, shards: Sequence[str] | None = None, *, also_scores: bool = False
) -> Decided:
    """Judge all samples of a recipe's shards by its filter.

    Args:
        recipe: Whose tables, and whose filter.
        shards: Which ones; by default all of the source.
        also_scores: Read the scores of all classifiers, whether the filter names them or
            not.

    Raises:
        InputError, UnknownNameError: The parts of the recipe don't fit each other, or a
            classifier of it has not scored anything yet.
        NotFoundError: No shard can be judged yet.
    """
    check_recipe(recipe)
    filter_ = make_filter(recipe.filter)
    scores = needed_scores(filter_)
    if also_scores:
        scores = ["key", *sorted(recipe.classifiers)]
    tars = list_shards(open_storage(recipe.source, recipe.s3))
    output = open_storage(recipe.output, recipe.s3)
    tables = CurrentTables(Lineage(recipe), output, tars)
    found = {shard: _read(tables, filter_, shard, scores) for shard in shards or tars}
    there = {shard: read for shard, read in found.items() if read is not None}
    if not there:
        raise NotFoundError(
            f"{recipe.output}: none of {len(found)} shard(s) has been scored and compared "
            f"under the recipe {recipe.name} yet; do so by: curate run --until duplicates"
        )
    if filter_.cuts:
        samples = (_judged(read, filter_) for read in there.values())
        filter_ = filter_.bind(find_cuts(filter_, samples))
    return Decided(filter_, there, tuple(shard for shard in found if shard not in there))


def _read(
    tables: CurrentTables, filter_: Filter, shard: str, scores: Sequence[str]
) -> ShardTables | None:
    try:
        return ShardTables(
            tables.read("embeddings", shard, needed_facts(filter_)),
            tables.read("scores", shard, scores),
            _read_duplicates(tables, shard, filter_),
        )
    except (NotFoundError, StaleError):  # not made yet, or of something else
        return None


def _read_duplicates(tables: CurrentTables, shard: str, filter_: Filter) -> pa.Table:
    """Read the shard's copies; none where the filter isn't about them, compared or not."""
    if filter_.columns.isdisjoint(DUPLICATE_COLUMNS):
        return pa.schema(DUPLICATES.columns).empty_table()
    return tables.read("duplicates", shard)


def _judged(tables: ShardTables, filter_: Filter) -> "pl.DataFrame":
    return judged_samples(tables.facts, tables.scores, tables.duplicates, filter_)
