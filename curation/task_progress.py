"""How far the task at hand is, told from inside it to whoever waits for it.

Whatever loops over many samples says where it is with :func:`tell_part`; nothing comes of
that where nobody listens. Who listens, and how it hears of it, is the worker's business.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

Tell = Callable[[int, int], object]
"""Called with the number of samples that are done, and that of all."""

_listener: ContextVar[Tell | None] = ContextVar("listener", default=None)


def tell_part(done: int, total: int) -> None:
    """Say that ``done`` of the task's ``total`` samples are done.

    Is heard in the thread that does the task, and not in others that it starts.
    """
    if listener := _listener.get():
        listener(done, total)


@contextmanager
def told_to(tell: Tell, seconds_between: float) -> Iterator[None]:
    """Let ``tell`` hear what a task says of itself within the context, but not too often.

    Args:
        tell: Called in the task's thread.
        seconds_between: Least seconds between two calls, and before the first: a short
            task tells nothing.
    """
    last = monotonic()

    def spaced(done: int, total: int) -> None:
        nonlocal last
        if (now := monotonic()) - last >= seconds_between:
            last = now
            tell(done, total)

    token = _listener.set(spaced)
    try:
        yield
    finally:
        _listener.reset(token)
