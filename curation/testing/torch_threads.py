"""Results under other numbers of torch's threads."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def with_threads(count: int, call: Callable[[], T]) -> T:
    """Call something while torch uses so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return call()
    finally:
        torch.set_num_threads(before)
