"""Which tars are complete: by their markers, or by two listings."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from curation.recipe import Recipe
from jobs.arrivals import Arrivals, find_arrivals, tell_waiting

SECOND = 1_000_000_000
NOON = 1_700_000_000 * SECOND


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def marked(tmp_path: Path) -> Recipe:
    return Recipe(
        name="test",
        source=str(tmp_path / "raw"),
        output=str(tmp_path / "made"),
        complete_when="marked",
    )


@pytest.fixture
def by_listing(marked: Recipe) -> Recipe:
    return marked.model_copy(update={"complete_when": "unchanged"})


def put(recipe: Recipe, path: str, written_ns: int = NOON) -> None:
    file = Path(recipe.source) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    os.utime(file, ns=(written_ns, written_ns))


def record(instance: dg.DagsterInstance, arrivals: Arrivals) -> None:
    """Record the tars of all shards, as a run of ``raw_shard`` does."""
    for shard, version in arrivals.versions.items():
        event = dg.AssetMaterialization(
            "raw_shard", partition=shard, tags={"dagster/data_version": version}
        )
        instance.report_runless_asset_event(event)


@pytest.mark.parametrize(("age", "is_complete"), [(-1, False), (0, True), (1, True)])
def test_a_marker_counts_that_is_as_new_as_its_tar(
    instance: dg.DagsterInstance, marked: Recipe, age: int, is_complete: bool
) -> None:
    put(marked, "a/0.tar", NOON)
    put(marked, "a/0.tar.done", NOON + age)
    found = find_arrivals(instance, marked)
    assert (list(found.versions), found.waiting) == (
        (["a/0"], ()) if is_complete else ([], ("a/0",))
    )


def test_other_names_are_no_markers(instance: dg.DagsterInstance, marked: Recipe) -> None:
    for path in ("0.tar", "0.done", "1.tar.done", "a/0.tar.done", "0.tar.DONE"):
        put(marked, path)
    assert find_arrivals(instance, marked).waiting == ("0",)


def test_a_tar_replaced_under_its_old_marker_stays_what_is_on_record(
    instance: dg.DagsterInstance, marked: Recipe
) -> None:
    for shard in ("0", "1"):
        put(marked, f"{shard}.tar")
        put(marked, f"{shard}.tar.done")
    before = find_arrivals(instance, marked)
    record(instance, before)
    put(marked, "0.tar", NOON + SECOND)
    between = find_arrivals(instance, marked)
    assert between.versions == before.versions
    assert between.waiting == ("0",)
    put(marked, "0.tar.done", NOON + SECOND)
    after = find_arrivals(instance, marked)
    assert after.waiting == ()
    assert after.versions["0"] != before.versions["0"]
    assert after.versions["1"] == before.versions["1"]


def test_what_is_on_record_needs_no_marker(
    instance: dg.DagsterInstance, marked: Recipe, by_listing: Recipe
) -> None:
    put(marked, "0.tar")
    record(instance, find_arrivals(instance, by_listing))
    put(marked, "1.tar")
    found = find_arrivals(instance, marked)
    assert list(found.versions) == ["0"]
    assert found.waiting == ("1",)


def test_without_markers_a_tar_is_complete_that_two_listings_agree_on(
    instance: dg.DagsterInstance, by_listing: Recipe
) -> None:
    put(by_listing, "0.tar")
    first = find_arrivals(instance, by_listing, seen={})
    assert first.waiting == ("0",)
    put(by_listing, "0.tar", NOON + 1)
    grown = find_arrivals(instance, by_listing, seen=first.unrecorded)
    assert grown.waiting == ("0",)
    assert find_arrivals(instance, by_listing, seen=grown.unrecorded).waiting == ()


def test_a_listing_with_none_before_it_takes_every_tar(
    instance: dg.DagsterInstance, by_listing: Recipe
) -> None:
    put(by_listing, "0.tar")
    assert find_arrivals(instance, by_listing).waiting == ()


def test_what_is_waited_for_is_named(marked: Recipe, by_listing: Recipe) -> None:
    assert "2 tar(s)" in tell_waiting(marked, ("a/0", "a/1"))
    assert "a/0.tar.done" in tell_waiting(marked, ("a/0", "a/1"))
    assert "look the same twice" in tell_waiting(by_listing, ("a/0",))
