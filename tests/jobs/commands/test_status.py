"""``curate status``."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from curation_assets.lineage import VERSIONS
from tests.conftest import Curated
from tests.import_world import ImportWorld
from tests.jobs.commands.conftest import Run


def test_everything_up_to_date_is_said(curated: Curated, run: Run) -> None:
    code, out = run("status", "--recipe", curated.recipe_file)
    assert code == 0
    assert "Everything is up to date" in out


def test_tars_that_wait_to_be_marked_are_counted_and_not_called_due(
    curated: Curated, run_json: Callable[..., Any], run: Run
) -> None:
    curated.edit("output:", "complete_when: marked\noutput:")
    shutil.copy(curated.folder / "raw" / "00000.tar", curated.folder / "raw" / "zz.tar")
    told = run_json("status", "--recipe", curated.recipe_file)
    assert (told["shards"], told["waiting"]) == (4, ["zz"])
    assert not any(told["due"].values()) and not told["global_due"]
    _, out = run("status", "--recipe", curated.recipe_file)
    assert "1 tar(s)" in out and "zz.tar.done" in out
    assert "up to date" not in out


def test_what_is_due_is_named_with_its_cause(
    curated: Curated, run_json: Callable[..., Any], run: Run
) -> None:
    curated.edit(">= 200", ">= 201")
    told = run_json("status", "--recipe", curated.recipe_file)
    due = {asset: sorted(causes) for asset, causes in told["due"].items() if causes}
    every = ["00000", "train/00001", "train/00002"]
    assert due == {"selection": every, "filtered_shard": every}
    cause = "filter min(width, height) >= 200 -> min(width, height) >= 201"
    assert set(told["due"]["selection"].values()) == {cause}
    _, out = run("status", "--recipe", curated.recipe_file)
    assert "selection changes (3)" in out


def test_imports_that_are_due_are_told_before_there_are_shards(
    importing: ImportWorld, run_json: Callable[..., Any], run: Run
) -> None:
    told = run_json("status", "--recipe", importing.recipe_file)
    assert told["shards"] == 0
    assert told["imports"] == {
        "imported_images": {"photos": "new"},
        "imported_urls": {"web": "new"},
    }
    _, out = run("status", "--recipe", importing.recipe_file)
    assert "web: new" in out and "curate run" in out


def test_settings_and_code_that_changed_are_told(
    curated: Curated, run_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def causes(asset: str) -> set[str]:
        told = run_json("status", "--recipe", curated.recipe_file)
        return set(told["due"][asset].values())

    curated.edit("{precision: fp32}", "{precision: bf16}")
    assert causes("embeddings") == {"encoder.precision fp32 -> bf16"}
    monkeypatch.setitem(VERSIONS, "shard_index", 2)
    assert causes("shard_index") == {"its code changed from version 1 to 2"}
    curated.edit("classifiers:", "duplicates: {exact: false}\nclassifiers:")
    told = run_json("status", "--recipe", curated.recipe_file)
    assert told["global_due"] == {"duplicate_groups": "duplicates.exact True -> False"}
