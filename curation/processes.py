"""Processes by a name that no other process ever has, and whether one is gone.

A number alone is given again to another process, and in containers every process has a
low one. With the time at which the system started, and the time at which the process did,
no two have the same name.
"""

import os
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


def this_process() -> str:
    """Name this process: machine, start of its system, number, and its own start."""
    return f"{_system()}/{os.getpid()}/{_started(os.getpid()) or 0}"


def is_gone(name: str) -> bool:
    """Tell whether a process is known to have ended.

    Args:
        name: As :func:`this_process` gave it.

    Returns:
        False if it is there, and of every process of another machine: of those nothing is
        known here.
    """
    system, number, started = name.rsplit("/", 2)
    if system != _system() or not number.isdigit():
        return False
    if _PROC.is_dir():
        return str(_started(int(number)) or "") != started
    try:
        os.kill(int(number), 0)  # asks only
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # someone else's
    return False


@cache
def _system() -> str:
    """Name what runs here: containers of one machine see no process of each other."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").readlink()
    except OSError:  # no Linux
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _started(process: int) -> int | None:
    """Give when a process started, in ticks since the system did; None if it is gone."""
    try:
        about = (_PROC / str(process) / "stat").read_text()
    except OSError:
        return None
    state, *fields = about.rpartition(")")[2].split()  # its name may hold anything
    return None if state in "ZX" else int(fields[18])
