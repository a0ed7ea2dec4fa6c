"""``curate train-probe``: a classifier of your own, from labels."""

from pathlib import Path
from typing import Annotated

import typer

from curation.probe_training import read_labels, save_probe
from curation.recipe import load_recipe
from jobs.console import print_json, print_result, result_table
from jobs.options import JsonOption, RecipeOption
from jobs.probe import train


def train_probe(
    labels: Annotated[
        Path, typer.Argument(help="CSV or Parquet with the columns shard, key and label.")
    ],
    out: Annotated[Path, typer.Option(help="The probe's file, `.safetensors`.")],
    recipe: RecipeOption = Path("recipe.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Train a linear probe on embeddings that `curate run --until embeddings` made."""
    probe = train(load_recipe(recipe), read_labels(labels))
    save_probe(probe, out)
    if as_json:
        print_json({"probe": str(out), "metrics": probe.metrics})
        return
    rows = [(name, f"{value:,.4g}") for name, value in probe.metrics.items()]
    print_result(
        result_table("On samples held out", ("metric", "value"), rows),
        f"{out} is ready; name it in the recipe under classifiers: "
        f"{{type: linear_probe, weights: {out}}}",
    )
