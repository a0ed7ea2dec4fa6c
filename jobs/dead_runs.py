"""Runs that `curate` executed in a process that was killed: they end here.

What Dagster's daemon launches it also looks after. A run that is executed in the process
that asked for it stays under way on record when that is killed, and everything that waits
for unfinished runs, the sensor for one, would wait for it for ever. So a process that
executes runs says in the records that it lives, again and again; one of this machine is
also looked for, by a name that no other process ever has.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from curation.processes import (
    SIGN_SECONDS,
    SILENCE_SECONDS,
    is_gone,
    is_taken,
    repeated,
    this_process,
)
from jobs.failure_causes import failure_cause, tell_cause

PROCESS = "curation/process"
"""Tag of a run that is executed in the process that asked for it: that process's name."""

SIGN = "curation/alive/"
"""Key, with a process's name, of the time at which it last gave a sign of life."""

_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_GONE = "is gone"
_KILLED = "it was killed"

log = logging.getLogger(__name__)


def process_tag() -> dict[str, str]:
    """Say which process a run is executed in: this one."""
    return {PROCESS: this_process()}


@contextmanager
def signs_of_life(instance: dg.DagsterInstance) -> Iterator[None]:
    """Say in the records that this process lives, while a block lasts.

    A process that slept for so long that others took it for dead is stopped as by SIGTERM:
    what it works on others may work on too.
    """
    if instance.is_ephemeral:  # no other process has these records
        yield
        return
    _give_sign(instance)
    last = time.time()

    def live() -> bool:
        nonlocal last
        try:
            if time.time() - last > SILENCE_SECONDS and _was_ended(instance):
                log.error("This process slept, and was taken for dead: it stops.")
                os.kill(os.getpid(), signal.SIGTERM)
                return True
            _give_sign(instance)
            last = time.time()
        except Exception as error:  # whatever the records are kept in may come back
            log.warning("no sign of life could be given: %s", error)
        return False

    with repeated(live, SIGN_SECONDS):
        yield


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Record as failed what was under way in processes that are gone.

    Those of this machine are looked for, at once. Of others there must be a sign of life in
    the last ``SILENCE_SECONDS``; the clocks of machines that share records agree by less.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        process = run.tags.get(PROCESS, "")
        if process and (why := _why_dead(instance, process)):
            instance.report_run_failed(run, f"Its process, {process}, {_GONE}: {why}.")
            tell_cause(instance, run)


def _why_dead(instance: dg.DagsterInstance, process: str) -> str:
    """Say why a process counts as gone; empty if it does not."""
    if process.count("/") == 1:  # as 0.1.0 named them: machine and number
        machine, _, number = process.partition("/")
        return "" if machine != socket.gethostname() or is_taken(int(number)) else _KILLED
    if is_gone(process):
        return _KILLED
    sign = instance.daemon_cursor_storage.get_cursor_values({SIGN + process})
    last = float(sign.get(SIGN + process, "inf"))
    if process != this_process() and time.time() - last > SILENCE_SECONDS:
        return f"no sign of life for {SILENCE_SECONDS / 60:.0f} minutes"
    return ""


def _give_sign(instance: dg.DagsterInstance) -> None:
    signs = {SIGN + this_process(): str(time.time())}
    instance.daemon_cursor_storage.set_cursor_values(signs)


def _was_ended(instance: dg.DagsterInstance) -> bool:
    """Tell whether another process recorded a run of this one as failed."""
    failed = [dg.DagsterRunStatus.FAILURE]
    own = dg.RunsFilter(statuses=failed, tags=process_tag())
    return any(_GONE in failure_cause(instance, run) for run in instance.get_runs(own))
