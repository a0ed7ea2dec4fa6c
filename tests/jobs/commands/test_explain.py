"""``curate explain``."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_a_sample_is_told_in_a_table(curated: Curated, run: Run) -> None:
    code, out = run(
        "explain", "cover", "--recipe", curated.recipe_file, "--shards", "00000"
    )
    assert code == 0
    for word in ("cover", "sharpness", "decision", "raw tar", "bytes"):
        assert word in out


def test_json_has_every_story(curated: Curated, run_json: Callable[..., Any]) -> None:
    told = run_json("explain", "cover", "--recipe", curated.recipe_file)
    assert [story["shard"] for story in told] == ["00000", "train/00001", "train/00002"]


def test_an_unknown_key_is_wrong_input(curated: Curated, run: Run) -> None:
    assert run("explain", "nonesuch", "--recipe", curated.recipe_file)[0] == 2
