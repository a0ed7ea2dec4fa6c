"""``curate release``: publish the filtered shards, immutable and renumbered."""

from pathlib import Path
from typing import Annotated

import typer

from curation.recipe import load_recipe
from curation.release.manifest import MANIFEST
from curation.storage import open_storage
from jobs.console import format_bytes, print_json, print_result, terminal_progress
from jobs.options import JsonOption, RecipeOption
from jobs.release import make_release

ReleaseNameOption = Annotated[
    str | None,
    typer.Option(help="Of the release; by default the recipe's name and a number."),
]


def release(
    recipe: RecipeOption = Path("recipe.yaml"),
    name: ReleaseNameOption = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="Pack all tars anew: samples don't keep the keys they had."
        ),
    ] = False,
    as_is: Annotated[
        bool,
        typer.Option("--as-is", help="Also if some filtered shards are not up to date."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish all kept samples in tars of equal size, with checksums and a data card."""
    settings = load_recipe(recipe)
    with terminal_progress() as progress:
        made = make_release(settings, progress, name=name, anew=anew, as_is=as_is)
    output = open_storage(settings.output, settings.s3)
    if as_json:
        url = f"{output.url}/{made.folder}/{MANIFEST}" if made else None
        warnings = list(made.warnings) if made else []
        released = made.name if made else None
        print_json({"released": released, "manifest": url, "warnings": warnings})
    elif made is None:
        print_result("Nothing to release: the last release has it all.")
    else:
        print_result(
            f"{made.name}: {made.num_samples:,} samples in {len(made.shards):,} tars, "
            f"{format_bytes(made.num_bytes)}, in {output.url}/{made.folder}",
            *(f"warning: {warning}" for warning in made.warnings),
        )
