"""The sensor, tick by tick, on a real folder and a real instance."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_run_for_test

from curation.verify import verify_shards
from jobs import new_shards
from jobs.dead_runs import PROCESS
from jobs.instance import open_instance
from tests.conftest import Curated
from tests.jobs.daemon import Daemon, assets_of

ORDER = ["00000", "train/00001", "train/00002"]


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    with open_instance(curated.recipe) as instance:
        yield instance


@pytest.fixture
def daemon(curated: Curated, instance: dg.DagsterInstance) -> Daemon:
    return Daemon(instance, curated.recipe)


@pytest.fixture
def raw(curated: Curated) -> Path:
    """Give the source's folder."""
    return curated.source.root


IMAGES = ["raw_shard", "shard_index", "embeddings", "scores"]


def run_under_way(daemon: Daemon, asset: str | None = None, **about: Any) -> dg.DagsterRun:
    """Put an unfinished run on record, of an asset or of a named job."""
    selection = frozenset({dg.AssetKey(asset)}) if asset else None
    about = {"status": dg.DagsterRunStatus.STARTED} | about
    return create_run_for_test(daemon.instance, asset_selection=selection, **about)


def test_nothing_new_starts_nothing_and_says_so(daemon: Daemon) -> None:
    result = daemon.tick()
    assert not result.run_requests
    assert "up to date" in str(result.skip_message)


def test_a_tar_that_grows_is_not_touched(daemon: Daemon, raw: Path) -> None:
    growing = raw / "growing.tar"
    for size in (1000, 2000, 3000):
        growing.write_bytes(bytes(size))
        result = daemon.tick()
        assert not result.run_requests
        assert "1 tar(s) are new or changed, and have to look the same twice" in str(
            result.skip_message
        )
    assert "growing" not in daemon.instance.get_dynamic_partitions("shards")


def test_a_replaced_tar_starts_its_own_chain_alone(daemon: Daemon, raw: Path) -> None:
    tar = raw / "train" / "00001.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    assert not daemon.tick().run_requests  # nor are the others compared without it
    (request,) = daemon.tick().run_requests or []
    assert request.tags["dagster/asset_partition_range_start"] == "train/00001"
    assert request.tags["dagster/asset_partition_range_end"] == "train/00001"
    assert assets_of(request) == IMAGES


def test_more_tars_than_one_tick_may_add_are_added_by_the_next(
    daemon: Daemon, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_shards, "ADDED_AT_ONCE", 1)
    for name in ("x.tar", "y.tar"):
        shutil.copy(raw / "00000.tar", raw / name)
    daemon.tick()
    for shards in ([*ORDER, "x"], [*ORDER, "x", "y"]):
        (request,) = daemon.tick().run_requests or []
        assert request.tags["dagster/asset_partition_range_start"] == "x"
        assert request.tags["dagster/asset_partition_range_end"] == shards[-1]
        assert daemon.instance.get_dynamic_partitions("shards") == shards


def test_where_tars_are_marked_a_new_one_waits_for_its_marker_and_no_longer(
    daemon: Daemon, curated: Curated, raw: Path
) -> None:
    daemon.load(curated.edit("output:", "complete_when: marked\noutput:"))
    shutil.copy(raw / "00000.tar", raw / "zz.tar")
    for _ in range(3):
        result = daemon.tick()
        assert not result.run_requests
        assert "1 tar(s)" in str(result.skip_message)
        assert "zz.tar.done" in str(result.skip_message)
    assert "zz" not in daemon.instance.get_dynamic_partitions("shards")
    (raw / "zz.tar.done").touch()
    (request,) = daemon.tick().run_requests or []
    assert request.tags["dagster/asset_partition_range_start"] == "zz"


def test_a_tar_that_is_gone_is_no_partition_any_more(daemon: Daemon, raw: Path) -> None:
    (raw / "00000.tar").unlink()
    daemon.tick()
    assert daemon.instance.get_dynamic_partitions("shards") == ORDER[1:]


@pytest.mark.parametrize("change", ["gone", "renamed", "came back by hand"])
def test_what_is_left_of_a_tar_that_is_gone_is_set_aside(
    daemon: Daemon, curated: Curated, raw: Path, change: str
) -> None:
    tar, _, table = curated.artifacts.of("filtered_shard", "00000")
    if change == "came back by hand":  # or by a run that was under way meanwhile
        curated.output.copy(tar, tar.replace("00000", "other"))
        tar = tar.replace("00000", "other")
    elif change == "renamed":
        (raw / "00000.tar").rename(raw / "other.tar")
    else:
        (raw / "00000.tar").unlink()
    for _ in range(8):
        daemon.run()
    assert not curated.output.exists(tar)
    assert curated.output.exists(tar.replace("filtered/", "set_aside/"))
    assert curated.output.exists(table) == (change == "came back by hand")
    assert (
        verify_shards(curated.output, curated.artifacts.filtered_folder).differences == ()
    )


def test_a_tar_that_is_gone_stays_a_partition_while_a_run_is_about_it(
    daemon: Daemon, raw: Path
) -> None:
    run = run_under_way(
        daemon,
        "embeddings",
        tags={
            "dagster/asset_partition_range_start": "00000",
            "dagster/asset_partition_range_end": "train/00001",
        },
    )
    for shard in ("train/00001", "train/00002"):
        (raw / f"{shard}.tar").unlink()
    daemon.tick()
    assert daemon.instance.get_dynamic_partitions("shards") == ORDER[:2]
    daemon.instance.report_run_failed(run)
    daemon.tick()
    assert daemon.instance.get_dynamic_partitions("shards") == ORDER[:1]


def test_no_partition_is_deleted_under_a_backfill(daemon: Daemon, raw: Path) -> None:
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="under way",
        asset_graph=daemon.code.asset_graph,
        partition_names=ORDER,
        asset_selection=[dg.AssetKey("selection")],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=daemon.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    daemon.instance.add_backfill(backfill)
    (raw / "00000.tar").unlink()
    daemon.tick()
    assert daemon.instance.get_dynamic_partitions("shards") == ORDER
    done = backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS)
    daemon.instance.update_backfill(done)
    daemon.tick()
    assert daemon.instance.get_dynamic_partitions("shards") == ORDER[1:]


def test_a_shard_in_an_unfinished_run_is_left_alone(daemon: Daemon, raw: Path) -> None:
    tar = raw / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    run_under_way(
        daemon,
        "embeddings",
        tags={"dagster/partition": "00000"},
    )
    result = daemon.tick()
    assert not result.run_requests
    assert "1 shard(s) are being worked on" in str(result.skip_message)


def test_a_shard_in_an_unfinished_run_of_a_named_job_is_left_alone(
    daemon: Daemon, raw: Path
) -> None:
    tar = raw / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    run_under_way(
        daemon,
        job_name="embed_only",
        tags={"dagster/partition": "00000"},
    )
    assert "1 shard(s) are being worked on" in str(daemon.tick().skip_message)


def test_shards_of_an_input_are_left_alone_while_it_is_imported(
    daemon: Daemon, raw: Path
) -> None:
    for tar in raw.rglob("*.tar"):
        os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    run_under_way(
        daemon,
        job_name="import_urls",
        tags={"dagster/partition": "train"},
    )
    (request,) = daemon.tick().run_requests or []
    assert request.tags["dagster/asset_partition_range_end"] == "00000"


def test_its_runs_say_what_they_are_about_and_let_others_go_first(
    daemon: Daemon, raw: Path
) -> None:
    tar = raw / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    (request,) = daemon.tick().run_requests or []
    assert request.tags["curation/recipe"] == "small"
    assert request.tags["curation/encoder"] == "tf_efficientnet_lite0"
    assert request.tags["dagster/priority"] == "-1"


def test_while_all_shards_are_compared_nothing_starts(daemon: Daemon) -> None:
    run_under_way(
        daemon,
        "duplicate_groups",
        status=dg.DagsterRunStatus.STARTING,
    )
    assert "over all shards" in str(daemon.tick().skip_message)


def test_a_run_whose_process_was_killed_holds_up_nothing(daemon: Daemon) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    run_under_way(
        daemon,
        "duplicate_groups",
        tags={PROCESS: f"{socket.gethostname()}/{killed.pid}"},
    )
    assert "up to date" in str(daemon.tick().skip_message)


def test_while_tars_of_a_release_are_written_nothing_starts(daemon: Daemon) -> None:
    run_under_way(
        daemon,
        "release_shard",
        tags={"dagster/partition": "00000"},  # of the release, and the name of a shard
    )
    assert "over all shards" in str(daemon.tick().skip_message)


def test_the_same_work_has_the_same_key_however_often_it_is_asked_for(
    daemon: Daemon, raw: Path
) -> None:
    tar = raw / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    first = [request.run_key for request in daemon.tick().run_requests or []]
    again = [request.run_key for request in daemon.tick().run_requests or []]
    assert first == again != []
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    other = [request.run_key for request in daemon.tick().run_requests or []]
    assert other != first


def test_a_run_that_failed_or_was_cancelled_is_told_and_holds_up_nothing(
    daemon: Daemon, raw: Path
) -> None:
    """With what Dagster itself puts on record; all else is in test_attempts.py."""
    tar, away = raw / "00000.tar", raw / "00000.away"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    daemon.tick()
    (request,) = daemon.tick().run_requests or []
    tar.rename(away)  # so that the run fails at once
    daemon.execute(request, None)
    away.rename(tar)
    assert "the last run failed: 00000 (run " in str(daemon.tick().skip_message)
    other = raw / "train" / "00001.tar"
    os.utime(other, ns=(0, other.stat().st_mtime_ns + 1))
    daemon.tick()
    (request,) = daemon.tick().run_requests or []
    assert request.tags["dagster/asset_partition_range_start"] == "train/00001"
    run = daemon.create(request)
    assert "1 shard(s) are being worked on" in str(daemon.tick().skip_message)
    daemon.instance.report_run_canceled(run)
    message = str(daemon.tick().skip_message)
    assert f"the last run was cancelled: train/00001 (run {run.run_id[:8]})" in message
    assert "the last run failed: 00000" in message


def test_a_listing_that_fails_is_told_and_survived(daemon: Daemon, raw: Path) -> None:
    raw.rename(raw.with_name("away"))
    assert "nothing can be started" in str(daemon.tick().skip_message)
    raw.with_name("away").rename(raw)
    assert "up to date" in str(daemon.tick().skip_message)
    assert daemon.instance.get_dynamic_partitions("shards") == ORDER
