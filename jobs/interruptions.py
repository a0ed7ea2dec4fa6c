"""What comes from outside while a command runs: signals, and readers that leave.

Ctrl-C and ``kill`` end a command with one line and the exit code that shells expect, and
``curate … | head`` ends as it would have ended without ``head``.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import IO, Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Whoever runs the command wants it to stop.

    Like ``KeyboardInterrupt`` it is no ``Exception``, so that nothing takes it for a
    fault of a shard; unlike it, it says which signal came.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal.Signals(signal_number)

    @property
    def exit_code(self) -> int:
        """What shells give a program that a signal ended: 130 or 143."""
        return 128 + self.signal


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Interrupted`; as before afterwards.

    Only the main thread can handle signals; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        for number in STOPPING:
            signal.signal(number, _stop)
        yield
    finally:
        _set_handlers(before)


def _set_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _stop(signal_number: int, _frame: FrameType | None) -> None:
    raise Interrupted(signal_number)


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Note which stopping signals come, whoever handles them meanwhile.

    Dagster handles both in one way while it executes a run, and does not tell which came.
    Both are handled as before afterwards.

    Yields:
        The signals in the order in which they came; filled when the context ends.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield noted
    finally:
        _set_handlers(handlers)  # Dagster leaves SIGTERM with the one of SIGINT
        signal.set_wakeup_fd(before)
        os.close(writer)
        with os.fdopen(reader, "rb") as came:
            noted += [number for number in came.read() if number in STOPPING]


@contextmanager
def nothing_printed() -> Iterator[None]:
    """Let what is printed to standard output and error, by libraries too, go nowhere.

    For the time of a run: what its steps print is in Dagster's logs, and what else is
    printed comes from helpers of Dagster's, which cry out when Ctrl-C reaches them too.
    """
    with ExitStack() as stack, open(os.devnull, "wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            if (number := _descriptor(stream)) is not None:
                copy = os.dup(number)
                stack.callback(os.close, copy)
                stack.callback(os.dup2, copy, number)
                stack.callback(stream.flush)
                os.dup2(nowhere.fileno(), number)
        yield


def _descriptor(stream: IO[str]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream in memory has none
        return None


class PatientWriter(io.TextIOWrapper):
    """Text for a reader that may leave early, as ``head`` does: the rest goes nowhere."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        """Point the descriptor at nothing, so that what is buffered can be written too."""
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.fileno())
        super().flush()


def write_patiently(descriptor: int, *, close: bool = False) -> PatientWriter:
    """Open a descriptor for text, in lines, to a reader that may leave."""
    binary = os.fdopen(descriptor, "wb", closefd=close)
    return PatientWriter(binary, encoding="utf-8", errors="replace", line_buffering=True)


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Go on when whoever reads standard output or error is gone."""
    before = sys.stdout, sys.stderr
    try:
        for name in ("stdout", "stderr"):
            descriptor = _descriptor(getattr(sys, name))
            if descriptor is not None:
                getattr(sys, name).flush()
                setattr(sys, name, write_patiently(descriptor))
        yield
    finally:
        for stream, patient in zip(before, (sys.stdout, sys.stderr), strict=True):
            if patient is not stream:
                patient.close()
        sys.stdout, sys.stderr = before
