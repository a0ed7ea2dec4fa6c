"""``curate prune``."""

import os
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


def test_what_killed_runs_left_unfinished_is_deleted_when_it_is_old(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    names = [f"{letter * 32}.part" for letter in "ab"]
    old, new = (curated.output.root / "releases" / f".{name}" for name in names)
    old.parent.mkdir()
    claims = curated.output.root / "release_claims"
    (claims / "names" / "shared").mkdir(parents=True)
    held = [claims / "names" / name for name in ("shared.json", "shared/a.json")]
    left = claims / "names" / "small-0001.json"
    for file in (old, new, *held, left):
        file.write_bytes(b"begun")
    for file in (old, left, held[1]):  # shared/a.json is of one who has shared.json still
        os.utime(file, (1, 1))
    code, out = run("prune", "--recipe", curated.recipe_file)
    assert (code, "left unfinished over 24 hours ago" in out) == (0, True)
    assert old.exists()
    told = run_json("prune", "--recipe", curated.recipe_file, "--delete")
    left_ones = ["releases/." + names[0], "release_claims/names/small-0001.json"]
    assert told["unfinished"] == left_ones
    assert [file.exists() for file in (old, new, left, *held)] == [0, 1, 0, 1, 1]
