"""The order in which the daemon takes runs, and what each asks of the cluster."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)

from curation.processes import this_process
from curation_assets.run_tags import BY_ITSELF
from jobs.dead_runs import PROCESS
from jobs.run_queue import RunQueue, step_tags
from tests.conftest import ROOT

GPU = {"gpus": 1}


@dg.asset
def embeddings() -> None: ...


@dg.asset(deps=[embeddings])
def selection() -> None: ...


JOB = dg.Definitions([embeddings, selection]).resolve_implicit_global_asset_job_def()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    settings = {
        "run_coordinator": {
            "module": "jobs.run_queue",
            "class": "RunQueue",
            "config": {
                "dequeue_interval_seconds": 2,
                "tags_of_steps": {"embeddings": {"needs": GPU, "team": "images"}},
            },
        },
        "concurrency": {"runs": {"max_concurrent_runs": 7}},
    }
    with dg.instance_for_test(overrides=settings) as opened:
        yield opened


def submit(instance: dg.DagsterInstance, *assets: str, **of_run: Any) -> dg.DagsterRun:
    chosen = {dg.AssetKey(asset) for asset in assets}
    location = GrpcServerCodeLocationOrigin("localhost", 4000)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), JOB.name)
    run = instance.create_run_for_job(
        JOB, asset_selection=chosen, remote_job_origin=origin, **of_run
    )
    context: Any = SubmitRunContext(run, workspace=None)  # type: ignore[arg-type]
    return instance.run_coordinator.submit_run(context)


def test_a_run_is_tagged_for_the_steps_that_it_has(instance: dg.DagsterInstance) -> None:
    tags = submit(instance, "embeddings", "selection").tags
    assert json.loads(tags["needs"]) == GPU
    assert tags["team"] == "images"
    assert "needs" not in submit(instance, "selection").tags


def test_no_place_is_kept_for_runs_of_processes_that_are_gone(
    instance: dg.DagsterInstance,
) -> None:
    system, number, begun = this_process().rsplit("/", 2)
    before = {PROCESS: f"{system}/{number}/{int(begun) - 1}"}  # had the same number
    dead = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=before)
    submit(instance, "selection")
    ended = instance.get_run_by_id(dead.run_id)
    assert ended
    assert ended.status == dg.DagsterRunStatus.FAILURE


def test_a_run_of_everything_has_every_step(instance: dg.DagsterInstance) -> None:
    assert "needs" in submit(instance).tags


def test_what_a_run_says_itself_stays(instance: dg.DagsterInstance) -> None:
    tags = submit(instance, "embeddings", tags={"needs": "nothing"}).tags
    assert tags["needs"] == "nothing"
    assert tags["team"] == "images"


def test_a_run_is_queued_under_the_instances_limits(instance: dg.DagsterInstance) -> None:
    assert submit(instance, "embeddings").status == dg.DagsterRunStatus.QUEUED
    assert isinstance(instance.run_coordinator, RunQueue)
    assert instance.run_coordinator.dequeue_interval_seconds == 2
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    assert limits.max_concurrent_runs == 7


def test_tags_of_all_steps_come_together() -> None:
    tags = {"a": {"x": "1"}, "b": {"y": [2]}, "c": {"z": "3"}}
    assert step_tags(tags, ["a", "b", "other"]) == {"x": "1", "y": "[2]"}


CODE = RemoteRepositoryOrigin(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="jobs.definitions")),
    "__repository__",
)
BACKFILL = {"dagster/backfill": "abc"}


def test_what_someone_launched_comes_first_then_the_sensors_then_backfills(
    tmp_path: Path,
) -> None:
    (tmp_path / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    queued: list[tuple[str, Mapping[str, str]]] = [
        ("backfill", BACKFILL),
        ("sensor", BY_ITSELF),
        ("clicked", {}),
        ("urgent backfill", BACKFILL | {"dagster/priority": "5"}),
        ("clicked later", {}),
    ]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.run_coordinator
        assert isinstance(queue, RunQueue)
        for name, tags in queued:
            run = create_run_for_test(
                instance,
                job_name=name.replace(" ", "_"),
                status=dg.DagsterRunStatus.NOT_STARTED,
                tags=tags,
                remote_job_origin=RemoteJobOrigin(CODE, "any"),
            )
            queue.submit_run(SubmitRunContext(run, cast("Any", None)))
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=0)
        limits = instance.get_concurrency_config()
        taken = daemon._get_runs_to_dequeue(instance, limits, None)  # four at a time
    assert [run.job_name.replace("_", " ") for run in taken] == [
        "urgent backfill",
        "clicked",
        "clicked later",
        "sensor",
    ]
