"""Selections of a run: decided again in plain Python."""

import pytest

from curation.tables import DUPLICATES, EMBEDDINGS, SCORES, SELECTION, read_table
from tests.conftest import Curated


@pytest.mark.parametrize("shard", ["00000", "train/00001"])
def test_every_sample_is_decided_as_the_filter_says(curated: Curated, shard: str) -> None:
    path = curated.artifacts
    facts = read_table(curated.output, path.embeddings(shard), EMBEDDINGS).to_pylist()
    scores = read_table(curated.output, path.scores(shard), SCORES).to_pylist()
    copies = read_table(curated.output, path.duplicates(shard), DUPLICATES)
    copied = set(copies["key"].to_pylist())
    selection = read_table(curated.output, path.selection(shard), SELECTION).to_pylist()
    by_key = {row["key"]: row["sharpness_probe"] for row in scores}
    expected = {
        row["key"]: row["error"] is None
        and min(row["width"], row["height"]) >= 200
        and by_key[row["key"]] >= 0.2
        and len((row["caption"] or "").split()) >= 1
        and row["key"] not in copied
        for row in facts
    }
    assert {row["key"]: row["kept"] for row in selection} == expected
    assert all(row["kept"] == (not row["reasons"]) for row in selection)
    assert 0 < sum(expected.values()) < len(expected)
