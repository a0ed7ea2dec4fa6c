"""Runs that `curate` executed in a process that was killed: they end here.

What Dagster's daemon launches it also looks after. A run that is executed in the process
that asked for it stays "started" on record when that is killed, and everything that waits
for unfinished runs, the sensor for one, would wait for it for ever.
"""

import os
import socket

import dagster as dg

from jobs.failure_causes import tell_cause

PROCESS = "curation/process"
"""Tag of a run that is executed in the process that asked for it: machine and process."""


def process_tag() -> dict[str, str]:
    """Say which process a run is executed in: this one."""
    return {PROCESS: f"{socket.gethostname()}/{os.getpid()}"}


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Record as failed what was under way in processes of this machine that are gone.

    Of processes of other machines nothing is known here; their runs are left as they are.
    """
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(started):
        machine, _, process = run.tags.get(PROCESS, "").rpartition("/")
        if machine == socket.gethostname() and not _is_alive(int(process)):
            instance.report_run_failed(
                run, f"Its process, {process} on {machine}, is gone: it was killed."
            )
            tell_cause(instance, run)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks only
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # someone else's
    return True
