"""``curate train-probe``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image, ImageFilter

from curation.classifiers import make_classifier
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run

SHARP = ("astronaut", "coffee", "chelsea", "rocket")


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


def test_two_folders_of_images_become_a_probe(
    curated: Curated, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    from skimage import data

    for folder, names in (("sharp", SHARP), ("blurred", SHARP)):
        (tmp_path / folder).mkdir()
        for name in names:
            picture = (
                Image.fromarray(getattr(data, name)()).convert("RGB").resize((256, 256))
            )
            for turn in range(4):
                turned = picture.rotate(90 * turn)
                if folder == "blurred":
                    turned = turned.filter(ImageFilter.GaussianBlur(6))
                turned.save(tmp_path / folder / f"{name}{turn}.png")
    (tmp_path / "sharp" / "notes.txt").write_text("no image")
    (tmp_path / "sharp" / "broken.jpg").write_bytes(b"no image either")
    folders = ("--positive", tmp_path / "sharp", "--negative", tmp_path / "blurred")
    out = tmp_path / "probe.safetensors"
    told = run_json("train-probe", *folders, "--out", out, "--recipe", curated.recipe_file)
    assert told["metrics"]["num_positive"] == told["metrics"]["num_negative"] == 16
    assert told["metrics"]["roc_auc"] > 0.9


def test_labels_and_folders_together_are_wrong_input(curated: Curated, run: Run) -> None:
    arguments = ("train-probe", "--out", "x.safetensors", "--positive", "x")
    assert run(*arguments, "--recipe", curated.recipe_file)[0] == 2


def test_labels_without_a_file_are_wrong_input(curated: Curated, run: Run) -> None:
    arguments = ("train-probe", "absent.csv", "--out", "x.safetensors")
    assert run(*arguments, "--recipe", curated.recipe_file)[0] == 2
