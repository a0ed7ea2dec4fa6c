"""The demo against what was planted."""

from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.errors import InputError
from curation.recipe import Recipe
from jobs.demo import find_outcomes, run_demo
from resources.progress import LineProgress
from tests.conftest import Curated

BY_RULE = ("dropped", "quarantined", "ignored")


def rerun(curated: Curated) -> Any:
    lines: list[str] = []
    done = run_demo(
        curated.recipe,
        LineProgress(lines.append),
        lines.append,
        num_shards=3,
        samples_per_shard=80,
    )
    return done, lines


def test_everything_planted_becomes_what_it_should(curated: Curated) -> None:
    done, _ = rerun(curated)
    assert done.is_as_planted
    rows = {row["kind"]: row for row in done.comparison.to_pylist()}
    blurred = rows.pop("blurred")
    assert blurred["as_expected"] > 0.8 * blurred["planted"]
    bad = [row for row in rows.values() if row["expected"] in BY_RULE]
    near = [row for row in bad if row["kind"].startswith("near_copy")]
    by_rule = [row for row in bad if row not in near]
    assert len(by_rule) > 10
    assert all(row["planted"] == row["as_expected"] for row in by_rule)
    assert len(near) == 4  # their bytes differ, and this recipe looks at nothing else
    assert (done.copies.near, done.copies.near_found, done.copies.wrong) == (27, 0, 0)


def test_near_copies_are_found_and_nothing_else_is_taken_for_one(curated: Curated) -> None:
    rule = "duplicates: {max_hamming: 31, min_similarity: 0.96}"
    curated.edit("machine:", f"{rule}\nmachine:")
    done, _ = rerun(curated)
    assert done.is_as_planted
    assert done.copies.wrong == 0
    rows = {row["kind"]: row for row in done.comparison.to_pylist()}
    for kind in ("near_copy_resize", "near_copy_quality", "near_copy_colour"):
        assert rows[kind]["as_expected"] == rows[kind]["planted"]
    crops = rows["near_copy_crop"]["as_expected"]
    assert done.copies.near_found == 27 - 6 + crops


def test_the_probe_finds_the_blurred_of_shards_it_never_saw(curated: Curated) -> None:
    done, _ = rerun(curated)
    assert done.num_test_labels > 10
    assert done.probe_accuracy > 0.8


def test_a_second_run_has_nothing_to_do(curated: Curated) -> None:
    rerun(curated)  # records where the copy's source is
    before = {file.path: file.version for file in curated.output.list_files()}
    done, _ = rerun(curated)
    assert done.runs.num_runs == 0
    assert not done.dataset.made
    assert {file.path: file.version for file in curated.output.list_files()} == before


def test_every_sample_of_every_shard_has_one_outcome(curated: Curated) -> None:
    shards = ("00000", "train/00001", "train/00002")
    found = find_outcomes(curated.recipe, shards).to_pylist()
    places = [(row["shard"], row["key"]) for row in found]
    assert len(set(places)) == len(places) == 240
    planted = pq.read_table(curated.folder / "raw" / "planted.parquet").to_pylist()
    truth = {(row["shard"], row["key"]) for row in planted if row["expected"] != "ignored"}
    assert truth == set(places)


def test_a_recipe_without_the_probe_is_refused() -> None:
    recipe = Recipe(name="mine", source="/nowhere", output="/nowhere-else")
    with pytest.raises(InputError, match="sharpness_probe"):
        run_demo(recipe, LineProgress(print), print)
