"""``curate doctor``: what is missing, and what is a little wrong."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.parity import MEDIAN_COSINE, MIN_COSINE
from curation.recipe import load_recipe
from jobs.console import print_json, print_result, result_table
from jobs.doctor import Finding, examine, measure_own_parity
from jobs.exit_codes import EXIT_DIFFERENCE
from jobs.options import JsonOption, RecipeOption


def doctor(
    recipe: RecipeOption = Path("recipe.yaml"),
    parity: Annotated[
        bool,
        typer.Option(
            "--parity",
            help="Embed images of the source by the recipe's loader and by timm's own "
            "transform, and compare.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at the machine and at all that a recipe names. Makes nothing."""
    settings = load_recipe(recipe)
    findings = examine(settings)
    told: dict[str, Any] = {}
    if parity:
        measured = measure_own_parity(settings)
        told["parity"] = asdict(measured)
        text = (
            f"cosine median {measured.median_cosine:.6f} (at least {MEDIAN_COSINE}), "
            f"min {measured.min_cosine:.6f} (at least {MIN_COSINE}), over "
            f"{measured.num_images} images; pixels differ by "
            f"{measured.mean_difference:.3f} of 255"
        )
        findings.append(Finding("parity with timm", text, measured.is_good))
    if as_json:
        print_json(told | {"findings": [asdict(finding) for finding in findings]})
    else:
        rows = [(f.what, "good" if f.is_good else "BAD", f.found) for f in findings]
        print_result(result_table("", ("what", "", "found"), rows))
    if not all(finding.is_good for finding in findings):
        raise typer.Exit(EXIT_DIFFERENCE)
