"""``curate calibrate``."""

from collections.abc import Callable
from typing import Any

from curation.dedup.calibrate import THRESHOLDS
from curation.dedup.edits import EDITS
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run

FEW = 4


def test_every_threshold_of_every_method_is_measured_on_every_edit(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    recipe = ("--recipe", curated.recipe_file, "--num-images", FEW)
    told = run_json("calibrate", *recipe)
    rows = {(r["method"], r["threshold"], r["edit"]): r for r in told["caught"]}
    expected = {
        (method, threshold, edit)
        for method, thresholds in THRESHOLDS.items()
        for threshold in thresholds
        for edit in [None, *EDITS]
    }
    assert rows.keys() == expected
    assert rows["semantic", 0.8, None]["pairs"] == FEW * (FEW - 1) / 2
    assert rows["exact", 1.0, None]["caught"] == 0
    assert rows["semantic", 0.8, "JPEG quality 50"]["caught"] == FEW
    assert rows["perceptual", 31, "half size"]["caught"] == FEW
    assert rows["perceptual", 31, "mirrored"]["caught"] == 0
    page = curated.output.read("reports/small.calibration.html").decode()
    assert told["url"].endswith("reports/small.calibration.html")
    assert all(edit in page for edit in EDITS)
    assert page.count("<polyline") == 2 * (len(EDITS) + 2)


def test_nothing_embedded_is_wrong_input_and_says_what_to_run(
    curated: Curated, run: Run
) -> None:
    for file in curated.output.list_files("embeddings"):
        curated.output.delete(file.path)
    assert run("calibrate", "--recipe", curated.recipe_file)[0] == 2
