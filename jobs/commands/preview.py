"""``curate preview``: what other thresholds would keep."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from curation.preview import Preview, find_thresholds, preview_threshold
from curation.recipe import load_recipe
from jobs.console import print_json, print_result, result_table, shorten
from jobs.decide import decide
from jobs.options import JsonOption, RecipeOption

BAR_WIDTH = 50  # characters of the histogram's longest bar


def preview(
    recipe: RecipeOption = Path("recipe.yaml"), as_json: JsonOption = False
) -> None:
    """Tell what the filter would keep with other thresholds; runs and writes nothing."""
    settings = load_recipe(recipe)
    decided = decide(settings)
    previews = [
        preview_threshold(decided.filter, decided.samples, threshold)
        for threshold in find_thresholds(decided.filter)
    ]
    if as_json:
        print_json([preview_json(found) for found in previews])
        return
    for found in previews:
        print_result(_grid(found), histogram_text(found), _nearest(found))
    if not previews:
        print_result("the filter compares no number with a written one")
    if decided.missing:
        print_result(f"{len(decided.missing)} shard(s) are not scored and compared yet")


def preview_json(preview: Preview) -> dict[str, Any]:
    """Give a preview as JSON values."""
    threshold = preview.threshold
    return {
        "subject": threshold.subject,
        "operator": threshold.operator,
        "value": threshold.value,
        "num_samples": preview.num_samples,
        "num_missing": preview.num_missing,
        "grid": preview.grid.to_pylist(),
        "histogram": preview.histogram.tolist(),
        "edges": preview.edges.tolist(),
        "nearest_kept": _samples_json(preview.nearest_kept),
        "nearest_dropped": _samples_json(preview.nearest_dropped),
    }


def _samples_json(samples: list[tuple[str, str, float]]) -> list[dict[str, Any]]:
    return [dict(zip(("shard", "key", "value"), one, strict=True)) for one in samples]


def histogram_text(preview: Preview) -> str:
    """Draw the values as bars, one line a bin; ``>`` marks the threshold's own."""
    counts, edges = preview.histogram, preview.edges
    if not counts.any():
        return "no sample has a value"
    marked = int(np.searchsorted(edges, preview.threshold.value, side="right")) - 1
    lines = [
        f"{'>' if number == marked else ' '} {edges[number]:>10.4g} "
        f"{'█' * round(BAR_WIDTH * count / counts.max()):<{BAR_WIDTH}} {count:,}"
        for number, count in enumerate(counts)
    ]
    return "\n".join(lines)


def _grid(preview: Preview) -> Table:
    threshold = preview.threshold
    title = (
        f"{threshold.subject} {threshold.operator} {threshold.value:g}: "
        f"{preview.num_samples:,} samples, {preview.num_missing:,} without a value"
    )
    rows = [
        (
            f"{row['threshold']:.6g}{' *' if row['threshold'] == threshold.value else ''}",
            row["kept_alone"],
            row["kept"],
        )
        for row in preview.grid.to_pylist()
    ]
    return result_table(title, ("threshold", "pass it alone", "kept by all"), rows)


def _nearest(preview: Preview) -> Table:
    sides = (("kept", preview.nearest_kept), ("dropped", preview.nearest_dropped))
    rows = [
        (shorten(key), shard, side, f"{value:.6g}")
        for side, samples in sides
        for shard, key, value in samples
    ]
    return result_table("nearest to it", ("key", "shard", "side", "value"), rows)
