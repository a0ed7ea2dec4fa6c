"""``curate preview``."""

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from curation.preview import find_thresholds, preview_threshold
from jobs.commands.preview import histogram_text, preview_json
from jobs.decide import decide
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run

SUBJECTS = ["min(width, height)", "sharpness_probe", "caption_words"]


def test_each_threshold_has_a_grid_a_histogram_and_neighbours(
    curated: Curated, run: Run
) -> None:
    code, out = run("preview", "--recipe", curated.recipe_file)
    assert code == 0
    for subject in SUBJECTS:
        assert f"{subject} >= " in out
    for word in ("kept by all", "█", "nearest to it", "dropped"):
        assert word in out


def test_the_present_threshold_keeps_what_the_run_kept(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    files = curated.output.list_files(f"selection/{curated.recipe.name}", suffix=".parquet")
    kept = sum(
        pq.read_table(curated.output.root / file.path)["kept"].to_pylist().count(True)
        for file in files
    )
    previews = run_json("preview", "--recipe", curated.recipe_file)
    assert [found["subject"] for found in previews] == SUBJECTS
    for found in previews:
        (row,) = [r for r in found["grid"] if r["threshold"] == found["value"]]
        assert row["kept"] == kept
        assert sum(found["histogram"]) == found["num_samples"] - found["num_missing"]


def test_a_filter_without_thresholds_has_nothing_to_preview(
    curated: Curated, run: Run
) -> None:
    curated.edit("min(width, height) >= 200 and sharpness_probe >= 0.2 and ", "")
    curated.edit("caption_words >= 1\n  and not is_duplicate", "not is_duplicate")
    code, out = run("preview", "--recipe", curated.recipe_file)
    assert (code, "compares no number" in out) == (0, True)


def test_the_histogram_marks_the_bin_of_the_threshold(curated: Curated) -> None:
    decided = decide(curated.recipe)
    threshold = find_thresholds(decided.filter)[1]
    found = preview_threshold(decided.filter, decided.samples, threshold)
    (marked,) = [line for line in histogram_text(found).split("\n") if line.startswith(">")]
    lower = float(marked.split()[1])
    step = found.edges[1] - found.edges[0]
    assert lower - 1e-3 <= threshold.value < lower + step + 1e-3
    assert preview_json(found)["value"] == threshold.value
