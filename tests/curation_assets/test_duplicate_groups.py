"""Copies among all shards, against a dictionary of hashes."""

from collections import defaultdict

import pytest

from curation.tables import DUPLICATES, EMBEDDINGS, read_table
from curation_assets.global_asset import recorded_made_of
from jobs.curate import curate
from jobs.instance import open_instance
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ("00000", "train/00001", "train/00002")


def removed(curated: Curated) -> dict[tuple[str, str], tuple[str, str]]:
    found = {}
    for shard in SHARDS:
        path = curated.artifacts.duplicates(shard)
        for row in read_table(curated.output, path, DUPLICATES).to_pylist():
            found[shard, row["key"]] = (row["survivor_shard"], row["survivor_key"])
    return found


def copies(curated: Curated) -> list[list[tuple[str, str]]]:
    by_hash = defaultdict(list)
    for shard in SHARDS:
        path = curated.artifacts.embeddings(shard)
        table = read_table(curated.output, path, EMBEDDINGS, ["key", "error", "sha256"])
        for row in table.to_pylist():
            if row["error"] is None:
                by_hash[row["sha256"]].append((shard, row["key"]))
    return [group for group in by_hash.values() if len(group) > 1]


def test_of_every_group_of_copies_one_survives(curated: Curated) -> None:
    found, groups = removed(curated), copies(curated)
    assert len(groups) > 10
    assert set(found) == {sample for group in groups for sample in group if sample in found}
    for group in groups:
        survivors = [sample for sample in group if sample not in found]
        assert len(survivors) == 1
        assert {found[s] for s in group if s in found} == set(survivors)


def test_the_survivor_is_the_one_that_the_recipe_prefers(curated: Curated) -> None:
    for group in copies(curated):
        by_key = min(group, key=lambda sample: sample[1])
        assert by_key not in removed(curated)
    curated.edit("machine:", "duplicates: {prefer: [key desc]}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    for group in copies(curated):
        assert max(group, key=lambda sample: sample[1]) not in removed(curated)


def test_without_exact_duplicates_none_are_removed(curated: Curated) -> None:
    curated.edit("machine:", "duplicates: {exact: false}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    assert removed(curated) == {}


def test_what_the_groups_are_made_of_is_on_record(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        assert recorded_made_of(instance, "duplicate_groups")


@pytest.mark.parametrize("column", ["sharpness_probe", "caption_words"])
def test_scores_and_derived_columns_can_decide(curated: Curated, column: str) -> None:
    curated.edit("machine:", f"duplicates: {{prefer: [{column} desc, key desc]}}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    assert removed(curated)
