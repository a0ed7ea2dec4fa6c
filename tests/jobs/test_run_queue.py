"""The order in which Dagster's daemon takes runs from the queue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster._core.remote_origin import (
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

from curation_assets.run_tags import BY_ITSELF
from jobs.run_queue import InteractiveFirst
from tests.conftest import ROOT

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
        assert isinstance(queue, InteractiveFirst)
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
