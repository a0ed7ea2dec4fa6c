"""``curate train-probe``: a classifier of your own, from labels."""

from pathlib import Path
from typing import Annotated

import typer

from curation.errors import InputError
from curation.probe_training import probe_warning, read_labels, save_probe
from curation.recipe import load_recipe
from jobs.console import print_json, print_result, result_table
from jobs.options import JsonOption, RecipeOption
from jobs.probe import find_in_folders, find_labelled, train


def train_probe(
    out: Annotated[Path, typer.Option(help="The probe's file, `.safetensors`.")],
    labels: Annotated[
        Path | None,
        typer.Argument(
            help="CSV or Parquet with the columns shard, key and label, of samples that "
            "`curate run --until embeddings` has embedded."
        ),
    ] = None,
    positive: Annotated[
        Path | None,
        typer.Option(help="Instead of labels: a folder of images that have it."),
    ] = None,
    negative: Annotated[
        Path | None, typer.Option(help="And a folder of images that have not.")
    ] = None,
    recipe: RecipeOption = Path("recipe.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Train a classifier of your own, from labelled samples or two folders of images."""
    settings = load_recipe(recipe)
    if labels and not (positive or negative):
        labelled = find_labelled(settings, read_labels(labels))
    elif positive and negative and not labels:
        labelled = find_in_folders(settings, positive, negative)
    else:
        raise InputError(
            "give either a file of labels, or both --positive and --negative folders"
        )
    probe = train(labelled)
    save_probe(probe, out)
    warning = probe_warning(probe.metrics)
    if as_json:
        print_json({"probe": str(out), "metrics": probe.metrics, "warning": warning})
        return
    rows = [(name, f"{value:,.4g}") for name, value in probe.metrics.items()]
    print_result(
        result_table("On samples held out", ("metric", "value"), rows),
        f"warning: {out} was written, and {warning}."
        if warning
        else f"{out} is ready; name it in the recipe under classifiers: "
        f"{{type: linear_probe, weights: {out}}}",
    )
