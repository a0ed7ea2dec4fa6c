"""``curate demo``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, SMALL_RECIPE
from tests.jobs.commands.conftest import Run


@pytest.mark.slow
def test_the_demo_runs_and_runs_again(
    tmp_path: Path,
    run: Run,
    run_json: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((ROOT / "recipe.yaml").read_text())
    code, out = run("demo", "--recipe", recipe)
    assert code == 0
    assert "Everything that is decided by rule became what it should" in out
    again = run_json("demo", "--recipe", recipe)
    assert again["num_runs"] == 0
    assert again["funnel"]["samples"] == 800
    assert again["near_copies"]["near"] == 72
    assert again["near_copies"]["near_found"] > 50
    assert again["near_copies"]["wrong"] == 0
    kinds = {row["kind"]: row for row in again["planted"]}
    for kind in ("exact_copy", "tiny", "truncated_jpeg", "html_page", "no_caption_file"):
        assert kinds[kind]["planted"] == kinds[kind]["as_expected"] > 0


def test_a_recipe_that_is_not_the_demos_is_refused(tmp_path: Path, run: Run) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SMALL_RECIPE.replace("sharpness_probe", "other_probe"))
    code, _ = run("demo", "--recipe", recipe)
    assert code == 2
    assert not (tmp_path / "raw").exists()
