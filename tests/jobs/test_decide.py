"""Deciding in memory gives what the run wrote, and writes nothing."""

import pytest

from curation.errors import NotFoundError
from curation.tables import SELECTION, read_table
from jobs.decide import decide
from tests.conftest import Curated

SHARDS = ["00000", "train/00001", "train/00002"]


def files(curated: Curated) -> dict[str, str]:
    return {file.path: file.version for file in curated.output.list_files("")}


def test_decisions_are_those_of_the_run_and_nothing_is_written(curated: Curated) -> None:
    before = files(curated)
    decided = decide(curated.recipe)
    assert list(decided.selections) == SHARDS
    for shard, found in decided.selections.items():
        written = read_table(curated.output, curated.artifacts.selection(shard), SELECTION)
        assert found.to_pylist() == written.to_pylist()
    assert files(curated) == before


def test_a_cut_over_all_samples_needs_no_run(curated: Curated) -> None:
    curated.edit("sharpness_probe >= 0.2", "top_fraction(sharpness, 0.5)")
    decided = decide(curated.recipe)
    (value,) = decided.filter.bound.values()
    values = sorted(
        value for frame in decided.samples.values() for value in frame["sharpness"]
    )
    assert value == values[len(values) // 2]


def test_a_shard_that_is_not_scored_is_named_as_missing(curated: Curated) -> None:
    curated.output.delete(curated.artifacts.scores("00000"))
    decided = decide(curated.recipe)
    assert list(decided.shards) == SHARDS[1:]
    assert decided.missing == ("00000",)


def test_copies_are_needed_only_by_filters_about_them(curated: Curated) -> None:
    curated.edit("name: small", "name: new")
    with pytest.raises(NotFoundError, match="curate run --until duplicates"):
        decide(curated.recipe)
    curated.edit("and not is_duplicate", "")
    assert list(decide(curated.recipe).selections) == SHARDS
