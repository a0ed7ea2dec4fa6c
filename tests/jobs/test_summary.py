"""The funnel and the bytes."""

from jobs.summary import summarize
from tests.conftest import Curated

SHARDS = ["00000", "train/00001", "train/00002"]


def test_counts_and_bytes_are_those_of_the_files(curated: Curated) -> None:
    summary = summarize(curated.recipe, SHARDS)
    assert summary.funnel.samples == 240
    assert 0 < summary.funnel.kept < 240
    assert summary.num_selected_shards == 3
    tars = list(curated.source.root.rglob("*.tar"))
    assert summary.raw_bytes == sum(tar.stat().st_size for tar in tars)
    filtered = list((curated.output.root / "filtered").rglob("*.tar"))
    assert summary.filtered_bytes == sum(tar.stat().st_size for tar in filtered)


def test_only_the_chosen_shards_count(curated: Curated) -> None:
    assert summarize(curated.recipe, SHARDS[:1]).funnel.samples == 80


def test_shards_that_are_not_decided_on_are_not_counted(curated: Curated) -> None:
    curated.output.delete(curated.artifacts.selection("00000"))
    summary = summarize(curated.recipe, SHARDS)
    assert (summary.num_shards, summary.num_selected_shards) == (3, 2)
    assert summary.as_json()["funnel"]["samples"] == 160
