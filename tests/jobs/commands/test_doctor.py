"""``curate doctor``."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_a_healthy_recipe_is_told_in_a_table(curated: Curated, run: Run) -> None:
    code, out = run("doctor", "--recipe", curated.recipe_file)
    assert code == 0
    assert "torch" in out
    assert "BAD" not in out


def test_parity_is_measured_on_request(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    told = run_json("doctor", "--recipe", curated.recipe_file, "--parity")
    assert told["parity"]["median_cosine"] > 0.9999


def test_what_is_wrong_has_its_own_exit_code(curated: Curated, run: Run) -> None:
    curated.edit("source: raw", "source: nowhere")
    code, out = run("doctor", "--recipe", curated.recipe_file)
    assert code == 5
    assert "BAD" in out
