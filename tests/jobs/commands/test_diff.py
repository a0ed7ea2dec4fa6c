"""``curate diff``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.errors import InputError
from jobs.commands.diff import compare_shards
from jobs.decide import decide
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


@pytest.fixture
def stricter(curated: Curated) -> Path:
    file = curated.folder / "stricter.yaml"
    text = curated.recipe_file.read_text()
    file.write_text(text.replace("sharpness_probe >= 0.2", "sharpness_probe >= 0.9"))
    return file


def test_changes_are_those_between_the_two_decisions(
    curated: Curated, stricter: Path, run_json: Callable[..., Any]
) -> None:
    changes = run_json("diff", curated.recipe_file, stricter)
    expected = [
        (shard, row["key"])
        for shard, frame in decide(curated.recipe).samples.items()
        for row in frame.to_dicts()
        if 0.2 <= row["sharpness_probe"] < 0.9
        and min(row["width"], row["height"]) >= 200
        and row["caption_words"] >= 1
        and not row["is_duplicate"]
    ]
    assert expected
    assert [(row["shard"], row["key"]) for row in changes] == expected
    for row in changes:
        assert (row["change"], row["reasons"]) == ("removed", ["sharpness_probe >= 0.9"])
    back = run_json("diff", stricter, curated.recipe_file)
    assert {row["change"] for row in back} == {"added"}


def test_a_table_tells_the_counts_and_the_reasons(
    curated: Curated, stricter: Path, run: Run
) -> None:
    code, out = run("diff", curated.recipe_file, stricter)
    assert code == 0
    assert "0 only kept after" in out
    assert "sharpness_probe" in out  # what follows is broken over lines


def test_a_recipe_does_not_differ_from_itself(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    assert run_json("diff", curated.recipe_file, curated.recipe_file) == []


def test_recipes_of_other_samples_are_refused(
    curated: Curated, stricter: Path, run: Run
) -> None:
    stricter.write_text(stricter.read_text().replace("source: raw", "source: other"))
    assert run("diff", curated.recipe_file, stricter)[0] == 2


def test_a_shard_that_one_recipe_alone_decides_is_named(curated: Curated) -> None:
    both = decide(curated.recipe).selections
    with pytest.raises(InputError, match="train/00001"):
        compare_shards(both, {s: t for s, t in both.items() if s != "train/00001"})
