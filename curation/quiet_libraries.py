"""What libraries print about images, which names neither the image nor the shard.

libjpeg, libpng and libtiff each tell stderr what they dislike ("Corrupt JPEG data:
premature end of data segment"), and Pillow warns. Among the lines of a run over a million
images that helps nobody, and the reason is on record beside the sample. So it is thrown
away, where it arises and nowhere else: what Python, C++ or a crash says passes.
"""

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

_lock = Lock()
_inside = 0
_outermost = ExitStack()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Throw away Python's warnings, and what C libraries print on stderr, in all threads.

    Threads may be inside at the same time; all is as before when the last one leaves.
    Costs some microseconds.
    """
    global _inside
    with _lock:
        if not _inside:
            # as its own context manager, threads would restore each other's filters
            _outermost.enter_context(warnings.catch_warnings(action="ignore"))
            _outermost.enter_context(_c_stderr_to_nowhere())
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _outermost.close()


@contextmanager
def _c_stderr_to_nowhere() -> Iterator[None]:
    """Let C's ``stderr`` be another stream; the file descriptor stays as it is.

    glibc's is a variable that a program may set (its manual, "Standard Streams"). With
    another C library nothing is done.
    """
    streams = _streams()
    if streams is None:
        yield
        return
    variable, nowhere = streams
    usual = variable.value
    variable.value = nowhere
    try:
        yield
    finally:
        variable.value = usual


@lru_cache(maxsize=1)
def _streams() -> tuple[Any, int] | None:
    """Find the variable, and open a stream to nowhere."""
    program = ctypes.CDLL(None)
    if not hasattr(program, "gnu_get_libc_version"):
        return None
    program.fopen.restype = ctypes.c_void_p
    nowhere = program.fopen(b"/dev/null", b"w")
    return (ctypes.c_void_p.in_dll(program, "stderr"), nowhere) if nowhere else None
