"""Runs whose process was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from jobs.dead_runs import PROCESS, end_dead_runs, process_tag
from jobs.failure_causes import CAUSE


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def process_of(tag: str) -> subprocess.Popen[bytes]:
    """Start a process that waits, and one that its tag is told by, like ``curate`` does."""
    code = (
        f"from {process_tag.__module__} import process_tag; print(process_tag()[{tag!r}])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}; import sys; sys.stdout.flush(); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def started(instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    return create_run_for_test(
        instance, status=dg.DagsterRunStatus.STARTED, tags=tags, job_name="any"
    )


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    found = instance.get_run_by_id(run.run_id)
    assert found
    return found.status.value


def test_a_run_ends_with_its_process_and_not_before(instance: dg.DagsterInstance) -> None:
    with process_of(PROCESS) as process:
        assert process.stdout
        run = started(instance, {PROCESS: process.stdout.readline().decode().strip()})
        end_dead_runs(instance)
        assert status(instance, run) == "STARTED"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        end_dead_runs(instance)
    assert status(instance, run) == "FAILURE"
    ended = instance.get_run_by_id(run.run_id)
    assert ended and "was killed" in ended.tags[CAUSE]


def test_runs_of_this_process_of_other_machines_and_of_dagster_are_left_alone(
    instance: dg.DagsterInstance,
) -> None:
    runs = [
        started(instance, tags)
        for tags in (process_tag(), {PROCESS: f"elsewhere/{2**22 + 1}"}, {})
    ]
    end_dead_runs(instance)
    assert [status(instance, run) for run in runs] == ["STARTED"] * 3
