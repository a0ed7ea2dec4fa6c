"""``curate train-probe``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from curation.classifiers import make_classifier
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_labels_become_a_probe_that_a_recipe_can_name(
    curated: Curated, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    planted = pl.read_parquet(curated.folder / "raw" / "planted.parquet")
    labelled = planted.filter(pl.col("sharpness_label").is_not_null()).select(
        "shard", "key", label=(pl.col("sharpness_label") == "sharp").cast(pl.Int8)
    )
    labelled.write_csv(tmp_path / "labels.csv")
    probe = tmp_path / "sharp.safetensors"
    arguments = ("train-probe", tmp_path / "labels.csv", "--out", probe)
    told = run_json(*arguments, "--recipe", curated.recipe_file)
    assert told["metrics"]["roc_auc"] > 0.8
    assert make_classifier("linear_probe", weights=str(probe)).needs.dim == 1280


def test_labels_without_a_file_are_wrong_input(curated: Curated, run: Run) -> None:
    arguments = ("train-probe", "absent.csv", "--out", "x.safetensors")
    assert run(*arguments, "--recipe", curated.recipe_file)[0] == 2
