"""Runs whose process was killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from curation.processes import this_process
from jobs import dead_runs
from jobs.dead_runs import PROCESS, end_dead_runs, process_tag, signs_of_life
from jobs.failure_causes import CAUSE


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
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


@pytest.mark.parametrize("kind", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_it_ends_however_far_it_came(instance: dg.DagsterInstance, kind: str) -> None:
    system, number, begun = this_process().rsplit("/", 2)
    before = {PROCESS: f"{system}/{number}/{int(begun) - 1}"}  # had the same number
    run = create_run_for_test(
        instance, status=dg.DagsterRunStatus(kind), tags=before, job_name="any"
    )
    other = create_run_for_test(instance, status=dg.DagsterRunStatus(kind), job_name="any")
    end_dead_runs(instance)
    assert [status(instance, run), status(instance, other)] == ["FAILURE", kind]


def test_runs_of_this_process_of_other_machines_and_of_dagster_are_left_alone(
    instance: dg.DagsterInstance,
) -> None:
    old = f"{socket.gethostname()}/{os.getpid()}"
    runs = [
        started(instance, tags)
        for tags in (
            *(process_tag(), {PROCESS: f"elsewhere/{2**22 + 1}"}, {PROCESS: old}),
            *({PROCESS: "elsewhere/1/2/7/99"}, {}),
        )
    ]
    end_dead_runs(instance)
    assert [status(instance, run) for run in runs] == ["STARTED"] * len(runs)


def test_a_process_elsewhere_counts_as_gone_when_it_was_silent_for_long(
    instance: dg.DagsterInstance,
) -> None:
    names = ["elsewhere/1/2/7/99", "elsewhere/1/2/7/100"]
    runs = [started(instance, {PROCESS: name}) for name in names]
    ago = [dead_runs.SILENCE_SECONDS + 5, dead_runs.SILENCE_SECONDS - 60]
    instance.daemon_cursor_storage.set_cursor_values(
        {
            dead_runs.SIGN + name: str(time.time() - seconds)
            for name, seconds in zip(names, ago, strict=True)
        }
    )
    end_dead_runs(instance)
    assert [status(instance, run) for run in runs] == ["FAILURE", "STARTED"]


def test_a_process_gives_signs_of_life(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_runs, "SIGN_SECONDS", 0.02)
    key, found = dead_runs.SIGN + this_process(), set()
    with signs_of_life(instance):
        for _ in range(200):
            found.add(instance.daemon_cursor_storage.get_cursor_values({key})[key])
            if len(found) > 2:
                break
            time.sleep(0.02)
    assert len(found) > 2


def test_a_process_that_slept_and_was_taken_for_dead_stops(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_runs, "SIGN_SECONDS", 0.02)
    monkeypatch.setattr(dead_runs, "SILENCE_SECONDS", 0.0)  # each wait is a long sleep
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        run = started(instance, process_tag())
        with signs_of_life(instance):
            time.sleep(0.1)
            assert not stopped.is_set()  # it slept, and nobody minded
            instance.report_run_failed(run, f"Its process, {this_process()}, is gone: x.")
            for _ in range(100):
                time.sleep(0.02)
                if stopped.is_set():
                    break
        assert stopped.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
