"""``curate diff``: which samples change sides between two recipes."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from curation.errors import InputError
from curation.preview import compare_selections
from curation.recipe import load_recipe
from jobs.console import print_json, print_result, result_table, shorten
from jobs.decide import decide
from jobs.options import JsonOption

MOST_ROWS = 50  # of samples, in the table for people


def diff(
    recipe_a: Annotated[Path, typer.Argument(help="The settings file before.")],
    recipe_b: Annotated[Path, typer.Argument(help="The settings file after.")],
    as_json: JsonOption = False,
) -> None:
    """List the samples that only one of two recipes keeps, and why; writes nothing."""
    before, after = load_recipe(recipe_a), load_recipe(recipe_b)
    if before.source != after.source:
        raise InputError(
            f"the recipes are of different samples: {before.source} and {after.source}; "
            "compare recipes with the same source"
        )
    changes = compare_shards(decide(before).selections, decide(after).selections)
    if as_json:
        print_json(changes)
        return
    counts = Counter(row["change"] for row in changes)
    rows = [
        (shorten(row["key"]), row["shard"], row["change"], "; ".join(row["reasons"]))
        for row in changes[:MOST_ROWS]
    ]
    title = f"{counts['added']:,} only kept after, {counts['removed']:,} only before"
    columns = ("key", "shard", "change", "the other side drops it for")
    print_result(result_table(title, columns, rows))
    if len(changes) > MOST_ROWS:
        print_result(f"… and {len(changes) - MOST_ROWS:,} more; --json lists them all")


def compare_shards(
    before: Mapping[str, pa.Table], after: Mapping[str, pa.Table]
) -> list[dict[str, Any]]:
    """List what changes sides, shard after shard.

    Args:
        before: A selection for each shard.
        after: Likewise.

    Returns:
        ``shard``, and the columns of :func:`curation.preview.compare_selections`.

    Raises:
        InputError: A shard is decided by one of the two alone.
    """
    if one_sided := sorted(set(before) ^ set(after)):
        raise InputError(
            f"{len(one_sided)} shard(s) are scored and compared under one of the recipes "
            f"alone, first {one_sided[0]}; run both: curate run --until duplicates"
        )
    return [
        {"shard": shard, **row}
        for shard, selection in before.items()
        for row in compare_selections(selection, after[shard]).to_pylist()
    ]
