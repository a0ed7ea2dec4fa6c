"""``curate calibrate``: which thresholds of duplicates catch what, on the user's images."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.table import Table

from curation.calibration_page import (
    AXES,
    format_calibration,
    mean_share,
    shares_of,
)
from curation.recipe import load_recipe
from curation.storage import open_storage
from curation_assets.lineage import Lineage
from jobs.calibrate import advice, calibration_page, draw_images
from jobs.calibrate import calibrate as measure
from jobs.console import print_json, print_line, print_result, result_table
from jobs.options import JsonOption, RecipeOption


def calibrate(
    recipe: RecipeOption = Path("recipe.yaml"),
    num_images: Annotated[
        int, typer.Option(min=2, help="How many images are drawn and edited.")
    ] = 200,
    as_json: JsonOption = False,
) -> None:
    """Edit a sample of your images, and print which thresholds find the copies."""
    settings = load_recipe(recipe)
    images = draw_images(settings, num_images)
    found = measure(settings, images, print_line)
    output = open_storage(settings.output, settings.s3)
    path = Lineage(settings).artifacts.calibration
    page = calibration_page(settings, images, found)
    output.write(path, format_calibration(page).encode())
    url = f"{output.url}/{path}"
    if as_json:
        print_json(
            {"url": url, "num_images": len(images), "caught": found.table.to_pylist()}
        )
        return
    tables = [_caught(method, found.table) for method in AXES]
    print_result(*tables, advice(found), f"with plots and pictures: {url}")


def _caught(method: str, table: pa.Table) -> Table:
    rows = shares_of(table, method)
    lines = [
        (row.edit, *map(_percent, row.shares))
        for row in rows
        if row.edit is not None and len(row.shares) > 1  # edits are never equal bytes
    ]
    lines.append(("all edits", *map(_percent, mean_share(rows))))
    lines += [
        (f"different, of {row.pairs:,} pairs", *(f"{n:,}" for n in row.counts))
        for row in rows
        if row.edit is None
    ]
    heads = ("caught by", *(f"{threshold:g}" for threshold in rows[0].thresholds))
    return result_table(f"{method}: {AXES[method]}", heads, lines)


def _percent(share: float) -> str:
    return f"{share:.0%}"
