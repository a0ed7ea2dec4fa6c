"""``curate release``, and what it makes of a curated dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.release.claims import claimed
from curation.verify import verify_release
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_what_was_curated_is_released_and_verifies(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    told = run_json("release", "--recipe", curated.recipe_file)
    assert told["released"] == "small-0001"
    manifest = json.loads(curated.output.read("releases/small-0001/manifest.json"))
    summary = run_json("status", "--recipe", curated.recipe_file)
    assert manifest["num_samples"] == manifest["funnel"]["kept"] > 0
    assert summary
    assert verify_release(curated.output, "releases/small-0001").differences == ()
    code, out = run("verify", curated.output.root / "releases" / "small-0001")
    assert (code, "every file is what the manifest says" in out) == (0, True)


def test_what_is_released_already_is_not_released_again(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    run_json("release", "--recipe", curated.recipe_file)
    code, out = run("release", "--recipe", curated.recipe_file)
    assert (code, "Nothing to release" in out) == (0, True)


def test_what_is_not_up_to_date_is_released_only_as_it_is(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    curated.edit(">= 200", ">= 300")
    assert run("release", "--recipe", curated.recipe_file)[0] == 2
    assert not curated.output.list_files("releases")
    told = run_json("release", "--as-is", "--recipe", curated.recipe_file)
    assert told["released"] == "small-0001"


def test_a_name_that_exists_is_refused(curated: Curated, run: Run) -> None:
    assert run("release", "--name", "final", "--recipe", curated.recipe_file)[0] == 0
    curated.edit("filter: >-", "release: {samples_per_shard: 7}\nfilter: >-")
    again = run("release", "--name", "final", "--recipe", curated.recipe_file)
    assert again[0] == 2


@pytest.mark.parametrize("command", [["release"], ["takedown", "keys.txt"]])
def test_while_another_process_releases_it_ends_with_a_code_to_run_it_again(
    curated: Curated, run: Run, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(curated.recipe_file.parent)
    Path("keys.txt").write_text("000000001\n")
    assert run("release", "--recipe", curated.recipe_file)[0] == 0
    with claimed(curated.output, "series", "small", "a release"):
        assert run(*command, "--recipe", curated.recipe_file)[0] == 4
    assert run(*command, "--recipe", curated.recipe_file)[0] == 0
