"""What a run asks of the cluster follows from its steps."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.run_coordinator import SubmitRunContext

from jobs.run_queue import StepTagsRunCoordinator, run_tags

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
            "class": "StepTagsRunCoordinator",
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


def test_a_run_of_everything_has_every_step(instance: dg.DagsterInstance) -> None:
    assert "needs" in submit(instance).tags


def test_what_a_run_says_itself_stays(instance: dg.DagsterInstance) -> None:
    tags = submit(instance, "embeddings", tags={"needs": "nothing"}).tags
    assert tags["needs"] == "nothing"
    assert tags["team"] == "images"


def test_a_run_is_queued_under_the_instances_limits(instance: dg.DagsterInstance) -> None:
    assert submit(instance, "embeddings").status == dg.DagsterRunStatus.QUEUED
    assert isinstance(instance.run_coordinator, StepTagsRunCoordinator)
    assert instance.run_coordinator.dequeue_interval_seconds == 2
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    assert limits.max_concurrent_runs == 7


def test_tags_of_all_steps_come_together() -> None:
    tags = {"a": {"x": "1"}, "b": {"y": [2]}, "c": {"z": "3"}}
    assert run_tags(tags, ["a", "b", "other"]) == {"x": "1", "y": "[2]"}
