"""What was tried in vain is put off and told, and holds up nothing else."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import attempts, new_shards
from tests.jobs.workers import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


def test_a_cancelled_run_holds_up_no_other_shard_and_is_told(world: World) -> None:
    world.put("a", "b", "c")
    world.work_off()
    world.put("a")
    world.work()
    (cancelled,) = world.work(cancel=True)
    world.put("c")
    message = world.work_off()
    assert world.done() == {"b", "c"}
    assert "put off, since the last run was cancelled: a" in message
    assert cancelled.run_id[:8] in message
    assert "`curate run`" in message


def test_a_shard_that_fails_holds_up_no_other_shard_and_is_told(world: World) -> None:
    world.put("a", "b", "c", "d")
    world.fails = {"b"}
    message = world.work_off()
    assert world.done() == {"a", "c", "d"}
    assert "put off, since the last run failed: b" in message


def test_a_shard_that_kills_its_run_holds_up_no_other_shard(world: World) -> None:
    world.put(*"abcdefgh")
    world.kills = {"a", "f"}
    message = world.work_off()
    assert world.done() == set("bcdegh")
    assert "failed: a (run" in message
    assert ", f (run" in message


def test_what_is_put_off_is_told_in_the_log_where_runs_start(world: World) -> None:
    world.put("a", "b")
    world.fails = {"a"}
    world.work_off()
    assert any("put off, since the last run failed: a" in line for line in world.told)


@pytest.mark.parametrize("mended", ["tar", "recipe", "machine", "day"])
def test_what_is_put_off_is_asked_for_when_something_changes_or_a_day_later(
    world: World, mended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", "b")
    world.work_off()
    world.fails = {"a"}
    world.put("a")
    world.work_off()
    world.fails = set()
    assert world.work() == []
    if mended == "tar":
        world.put("a")
    elif mended == "recipe":
        world.filter = "width > 1"
    elif mended == "machine":
        world.shards_per_run = 3
    else:
        monkeypatch.setattr(attempts, "SECONDS_UNTIL_ASKED_AGAIN", 0)
    assert "up to date" in world.work_off()
    assert world.done() == {"a", "b"}


@pytest.mark.parametrize("mended", ["tar", "recipe", "day"])
def test_the_same_holds_of_a_run_that_was_cancelled(
    world: World, mended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", "b")
    world.work()
    world.work(cancel=True)
    assert world.work() == []
    if mended == "tar":
        world.put("b")  # of the same run
    elif mended == "recipe":
        world.filter = "width > 1"
    else:
        monkeypatch.setattr(attempts, "SECONDS_UNTIL_ASKED_AGAIN", 0)
    assert "up to date" in world.work_off()
    assert world.done() == {"a", "b"}


def test_a_run_that_was_cancelled_half_way_is_not_gone_on_with(world: World) -> None:
    world.put("a")
    world.work()
    ((request,), _) = world.tick()
    run = world.start(request)
    world._record("raw_shard", "a")
    world._record("shard_index", "a")
    world.instance.report_run_canceled(run)
    requests, message = world.tick()
    assert requests == []
    assert "cancelled: a" in message


def test_a_comparison_that_fails_is_told_and_tried_when_there_is_more_to_compare(
    world: World,
) -> None:
    world.put("a")
    world.fails = {"duplicate_groups"}
    assert "last run failed: duplicate_groups" in world.work_off()
    world.fails = set()
    assert world.work() == []
    world.put("b")
    assert "up to date" in world.work_off()
    assert world.done() == {"a", "b"}


def test_a_recipe_that_goes_back_and_forth_is_followed(world: World) -> None:
    world.put("a")
    for filter_ in ("width > 1", "width > 2", "width > 1", "width > 2", "width > 1"):
        world.filter = filter_
        assert "up to date" in world.work_off()
        assert world.done() == {"a"}


def test_what_is_deleted_again_is_made_again(world: World) -> None:
    world.put("a")
    world.work_off()
    for again in range(1, 4):
        (world.folder / "curated" / world.lineage.artifacts.filtered_tar("a")).unlink()
        assert "up to date" in world.work_off()
        assert world.made.total() == len(world.made) + again


def test_new_shards_come_before_those_that_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_shards, "MOST_RUNS", 2)
    world.kills = set("abcdefgh")
    world.put(*"abcdefgh")
    world.work_off()
    world.put("z")
    assert "put off" in world.work_off()
    assert world.done() == {"z"}


def test_the_same_run_is_asked_for_under_the_same_key_until_it_is_on_record(
    world: World,
) -> None:
    world.put("a")
    world.tick()
    (first,), _ = world.tick()
    world.keys.clear()
    (again,), _ = world.tick()
    assert first.run_key == again.run_key
    world.start(again, dg.DagsterRunStatus.FAILURE)
    world.put("a")
    world.tick()
    (other,), _ = world.tick()
    assert other.run_key != first.run_key


def test_runs_of_another_project_on_the_instance_are_no_matter(world: World) -> None:
    other = frozenset({dg.AssetKey("sales_dashboard")})
    create_run_for_test(
        world.instance, asset_selection=other, status=dg.DagsterRunStatus.STARTED
    )
    world.put("a")
    world.work_off()
    assert world.done() == {"a"}


SHARDS = tuple("abcdef")
EVENTS = st.tuples(
    st.sampled_from(["put", "put", "fail", "kill", "mend", "remove", "cancel", "work"]),
    st.sets(st.sampled_from(SHARDS), min_size=1, max_size=4),
)


@settings(max_examples=6)
@given(st.lists(EVENTS, min_size=2, max_size=6))
def test_whatever_happens_each_healthy_shard_is_decided_on_and_nothing_is_made_twice(
    history: list[tuple[str, set[str]]],
) -> None:
    with (
        TemporaryDirectory() as folder,
        dg.DagsterInstance.ephemeral() as instance,
        pytest.MonkeyPatch.context() as patch,
    ):
        world = World(Path(folder), instance)
        world.put("always")
        cancelled: set[str] = set()
        for what, shards in history:
            if what == "put":
                world.put(*shards)
            elif what == "fail":
                world.fails |= shards
            elif what == "kill":
                world.kills |= shards
            elif what == "mend":
                world.fails -= shards
                world.kills -= shards
            elif what == "remove":
                for shard in shards:
                    (world.folder / "raw" / f"{shard}.tar").unlink(missing_ok=True)
            for run in world.work(cancel=what == "cancel"):
                if what == "cancel":
                    cancelled.update(attempts.partitions_of(run, world.order))
        message = world.work_off()
        there = {tar.stem for tar in (world.folder / "raw").iterdir()}
        ill = world.fails | world.kills
        assert there - ill - cancelled <= set(world.done()) | _waiting_for_all(message)
        patch.setattr(attempts, "SECONDS_UNTIL_ASKED_AGAIN", 0)  # a day later, all mended
        world.fails, world.kills = set(), set()
        assert "up to date" in world.work_off()
        assert world.done() == there
        assert set(world.made.values()) == {1}


def _waiting_for_all(message: str) -> set[str]:
    """Name all shards where the comparison itself was cancelled: all wait for it."""
    return {"always", *SHARDS} if "duplicate_groups" in message else set()
