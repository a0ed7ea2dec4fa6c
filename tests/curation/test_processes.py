"""A process has a name of its own, and is gone when the system says so."""

import os
import subprocess
import sys

from curation.processes import is_gone, this_process


def test_this_process_is_there() -> None:
    assert this_process() == this_process()
    assert not is_gone(this_process())


def test_one_that_ended_is_gone_and_one_that_waits_to_be_buried_too() -> None:
    code = "from curation.processes import this_process; print(this_process())"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        name = process.stdout.read().strip()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(name)  # a zombie still has its number
    assert is_gone(name)


def test_another_one_with_the_same_number_is_not_it() -> None:
    system, number, started = this_process().rsplit("/", 2)
    assert is_gone(f"{system}/{number}/{int(started) - 1}")


def test_of_other_machines_nothing_is_known() -> None:
    _, number, started = this_process().rsplit("/", 2)
    assert not is_gone(f"elsewhere/{number}/{started}")
    assert not is_gone(f"elsewhere/{number}/{int(started) - 1}")
    assert not is_gone("nonsense/a/b")
