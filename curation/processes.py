"""Processes: a name that no other one ever has, whether one is gone, signs of life.

A number alone is given again to another process, and in containers every process has a
low one. With the time at which the system started, and the time at which the process did,
no two have the same name.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

SIGN_SECONDS = 20.0
"""Between two signs of life of a process that others may wait for."""
SILENCE_SECONDS = 300.0
"""Without a sign, after which a process that can't be looked for counts as gone."""

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
    return not is_taken(int(number))


def is_taken(number: int) -> bool:
    """Tell whether some process of this machine has a number at this moment."""
    try:
        os.kill(number, 0)  # asks only
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # someone else's
    return True


@contextmanager
def repeated(call: Callable[[], bool | None], seconds: float) -> Iterator[None]:
    """Call something again and again, in a thread, while a block lasts.

    Args:
        call: One that returns True is not called again. It handles its own errors.
        seconds: Before the first call, and between two.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds) and not call():
            pass

    thread = threading.Thread(target=run, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
