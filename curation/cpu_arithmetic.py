"""Arithmetic on a CPU whose bits hang on its inputs alone, not on how many cores there are.

A sum that several threads share is added in another order than by one, and a matrix product
of other shapes takes other kernels: the last bits differ. So each piece of work has a fixed
shape and one thread, and the cores work side by side, which is faster besides.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_pools: dict[int, ThreadPoolExecutor] = {}
"""By process: a forked one has none of its parent's threads."""


def side_by_side(call: Callable[[T], R], parts: Iterable[T]) -> list[R]:
    """Compute something of each part, by one thread each, as many at once as may be.

    Args:
        call: Uses torch; called by several threads at once.
        parts: What it is called with.

    Returns:
        What the calls return, in order. Their bits are the same whatever
        ``torch.get_num_threads()`` is.
    """
    import torch

    if torch.get_num_threads() == 1:
        return list(map(call, parts))
    pool = _pools.get(os.getpid()) or _started()
    return list(pool.map(call, parts))


def _started() -> ThreadPoolExecutor:
    """Start as many threads as torch would use, each of which tells torch to use one."""
    import torch

    count = torch.get_num_threads()
    all_are_there = Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # else the first operation asks for all of them
        torch.set_num_threads(1)
        all_are_there.wait()

    pool = ThreadPoolExecutor(count, "one of many", initializer=begin)
    for done in [pool.submit(int) for _ in range(count)]:
        done.result()
    torch.set_num_threads(count)  # of threads that are not these
    _pools.clear()
    _pools[os.getpid()] = pool
    return pool
