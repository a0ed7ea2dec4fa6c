"""``curate prune``."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_nothing_is_deleted_unless_it_is_asked_for(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    (curated.folder / "raw" / "00000.tar").unlink()
    files = curated.output.list_files()
    code, out = run("prune", "--recipe", curated.recipe_file)
    assert (code, "--delete deletes it" in out) == (0, True)
    assert curated.output.list_files() == files
    told = run_json("prune", "--recipe", curated.recipe_file, "--delete")
    left = {file.path for file in curated.output.list_files()}
    assert left == {file.path for file in files} - set(told["files"])
    assert (
        "Everything in the output is in use" in run("prune", "-r", curated.recipe_file)[1]
    )
