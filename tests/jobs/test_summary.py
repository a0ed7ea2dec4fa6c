"""The funnel and the bytes."""

from jobs.commands.run import run_tables
from jobs.curate import CurateResult, curate
from jobs.summary import summarize
from resources.progress import LineProgress
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


def test_what_lies_there_of_another_filter_is_not_counted(curated: Curated) -> None:
    recipe = curated.edit("min(width, height) >= 200", "min(width, height) >= 250")
    before = summarize(recipe, SHARDS)
    assert (before.num_selected_shards, before.funnel.samples) == (0, 0)
    curate(recipe, LineProgress(print), until="selection")
    after = summarize(recipe, SHARDS)
    assert (after.num_selected_shards, after.num_filtered_shards) == (3, 0)
    assert after.filtered_bytes == 0
    told = run_tables(recipe, after, CurateResult(num_runs=1))
    assert any("3 of 3 filtered shards are still to be written" in str(t) for t in told)
