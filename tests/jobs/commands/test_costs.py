"""``curate costs``."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_what_the_runs_took_is_one_row_by_recipe_encoder_and_device(
    curated: Curated, run_json: Callable[..., Any], run: Run
) -> None:
    (cost,) = run_json("costs", "--recipe", curated.recipe_file)
    assert (cost["recipe"], cost["device"], cost["num_images"]) == ("small", "cpu", 240)
    code, out = run("costs", "--recipe", curated.recipe_file)
    assert code == 0
    assert "small" in out and "240" in out
