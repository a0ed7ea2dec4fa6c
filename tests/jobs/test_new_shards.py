"""The sensor, tick by tick, on a real folder and a real instance."""

import os
import shutil
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from jobs.asset_definitions import asset_definitions
from jobs.instance import open_instance
from jobs.new_shards import tick
from tests.conftest import Curated

ORDER = ["00000", "train/00001", "train/00002"]


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    with open_instance(curated.recipe) as instance:
        yield instance


class Ticks:
    """A daemon in miniature: applies what a tick asks for, and executes its runs."""

    def __init__(self, curated: Curated, instance: dg.DagsterInstance) -> None:
        self.curated, self.instance = curated, instance
        self.cursor: str | None = None
        self.keys: set[str] = set()

    def tick(self) -> dg.SensorResult:
        result = tick(self.instance, self.curated.recipe, self.cursor)
        self.cursor = result.cursor or self.cursor
        for change in result.dynamic_partitions_requests or []:
            if isinstance(change, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions("shards", list(change.partition_keys))
            else:
                for key in change.partition_keys:
                    self.instance.delete_dynamic_partition("shards", key)
        return result

    def run(self) -> list[tuple[str, list[str]]]:
        """Tick, and execute what is new; give first shard and assets of each run."""
        job = asset_definitions(self.curated.recipe).resolve_implicit_global_asset_job_def()
        done = []
        for request in self.tick().run_requests or []:
            if request.run_key in self.keys:
                continue
            self.keys.add(request.run_key or "")
            job.execute_in_process(
                instance=self.instance,
                asset_selection=list(request.asset_selection or []),
                tags=dict(request.tags),
            )
            names = [key.to_user_string() for key in request.asset_selection or []]
            first = request.tags.get("dagster/asset_partition_range_start", "all")
            done.append((first, names))
        return done


@pytest.fixture
def ticks(curated: Curated, instance: dg.DagsterInstance) -> Ticks:
    return Ticks(curated, instance)


IMAGES = ["raw_shard", "shard_index", "embeddings", "scores"]


def test_nothing_new_starts_nothing_and_says_so(ticks: Ticks) -> None:
    result = ticks.tick()
    assert not result.run_requests
    assert "up to date" in str(result.skip_reason)


def test_a_new_tar_is_waited_for_then_curated_to_the_end(ticks: Ticks) -> None:
    raw = ticks.curated.source.root
    shutil.copy(raw / "00000.tar", raw / "zz.tar")
    assert "look the same twice" in str(ticks.tick().skip_reason)
    assert ticks.run() == [("zz", IMAGES)]
    assert ticks.run() == [("all", ["duplicate_groups"])]
    assert ticks.run() == [("zz", ["selection", "filtered_shard"])]
    assert ticks.run() == []
    assert ticks.curated.output.exists(ticks.curated.artifacts.filtered_tar("zz"))


def test_a_tar_that_grows_is_not_touched(ticks: Ticks) -> None:
    growing = ticks.curated.source.root / "growing.tar"
    for size in (1000, 2000, 3000):
        growing.write_bytes(bytes(size))
        assert not ticks.tick().run_requests
    assert "growing" not in ticks.instance.get_dynamic_partitions("shards")


def test_a_replaced_tar_starts_its_own_chain_alone(ticks: Ticks) -> None:
    tar = ticks.curated.source.root / "train" / "00001.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    assert not ticks.tick().run_requests  # nor are the others compared without it
    assert ticks.run() == [("train/00001", IMAGES)]


def test_where_tars_are_marked_a_new_one_waits_for_its_marker_and_no_longer(
    ticks: Ticks,
) -> None:
    ticks.curated.edit("output:", "complete_when: marked\noutput:")
    raw = ticks.curated.source.root
    shutil.copy(raw / "00000.tar", raw / "zz.tar")
    for _ in range(3):
        result = ticks.tick()
        assert not result.run_requests
        assert "1 tar(s)" in str(result.skip_reason)
        assert "zz.tar.done" in str(result.skip_reason)
    assert "zz" not in ticks.instance.get_dynamic_partitions("shards")
    (raw / "zz.tar.done").touch()
    (request,) = ticks.tick().run_requests or []
    assert request.tags["dagster/asset_partition_range_start"] == "zz"


def test_a_tar_that_is_gone_is_no_partition_any_more(ticks: Ticks) -> None:
    (ticks.curated.source.root / "00000.tar").unlink()
    ticks.tick()
    assert ticks.instance.get_dynamic_partitions("shards") == ORDER[1:]


def test_a_shard_in_an_unfinished_run_is_left_alone(ticks: Ticks) -> None:
    tar = ticks.curated.source.root / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    ticks.tick()
    create_run_for_test(
        ticks.instance,
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "00000"},
        asset_selection=frozenset({dg.AssetKey("embeddings")}),
    )
    result = ticks.tick()
    assert not result.run_requests
    assert "1 shard(s) are being worked on" in str(result.skip_reason)


def test_a_shard_in_an_unfinished_run_of_a_named_job_is_left_alone(ticks: Ticks) -> None:
    tar = ticks.curated.source.root / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    ticks.tick()
    create_run_for_test(
        ticks.instance,
        job_name="embed_only",
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "00000"},
    )
    assert "1 shard(s) are being worked on" in str(ticks.tick().skip_reason)


def test_its_runs_say_what_they_are_about_and_let_others_go_first(ticks: Ticks) -> None:
    tar = ticks.curated.source.root / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    ticks.tick()
    (request,) = ticks.tick().run_requests or []
    assert request.tags["curation/recipe"] == "small"
    assert request.tags["curation/encoder"] == "tf_efficientnet_lite0"
    assert request.tags["dagster/priority"] == "-1"


def test_while_all_shards_are_compared_nothing_starts(ticks: Ticks) -> None:
    create_run_for_test(
        ticks.instance,
        status=dg.DagsterRunStatus.STARTING,
        asset_selection=frozenset({dg.AssetKey("duplicate_groups")}),
    )
    assert "over all shards" in str(ticks.tick().skip_reason)


def test_while_tars_of_a_release_are_written_nothing_starts(ticks: Ticks) -> None:
    create_run_for_test(
        ticks.instance,
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "00000"},  # of the release, and the name of a shard
        asset_selection=frozenset({dg.AssetKey("release_shard")}),
    )
    assert "over all shards" in str(ticks.tick().skip_reason)


def test_the_same_work_has_the_same_key_however_often_it_is_asked_for(
    ticks: Ticks,
) -> None:
    tar = ticks.curated.source.root / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    ticks.tick()
    first = [request.run_key for request in ticks.tick().run_requests or []]
    again = [request.run_key for request in ticks.tick().run_requests or []]
    assert first == again != []
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    ticks.tick()
    other = [request.run_key for request in ticks.tick().run_requests or []]
    assert other != first


def test_a_listing_that_fails_is_told_and_survived(ticks: Ticks) -> None:
    raw = ticks.curated.source.root
    raw.rename(raw.with_name("away"))
    assert "could be listed" in str(ticks.tick().skip_reason)
    raw.with_name("away").rename(raw)
    assert "up to date" in str(ticks.tick().skip_reason)
    assert ticks.instance.get_dynamic_partitions("shards") == ORDER
