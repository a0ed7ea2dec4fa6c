"""``curate status``."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_everything_up_to_date_is_said(curated: Curated, run: Run) -> None:
    code, out = run("status", "--recipe", curated.recipe_file)
    assert code == 0
    assert "Everything is up to date" in out


def test_what_is_due_is_named_with_its_cause(
    curated: Curated, run_json: Callable[..., Any], run: Run
) -> None:
    curated.edit(">= 200", ">= 201")
    told = run_json("status", "--recipe", curated.recipe_file)
    due = {asset: sorted(causes) for asset, causes in told["due"].items() if causes}
    every = ["00000", "train/00001", "train/00002"]
    assert due == {"selection": every, "filtered_shard": every}
    _, out = run("status", "--recipe", curated.recipe_file)
    assert "selection changes (3)" in out
