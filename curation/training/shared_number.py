"""Numbers of a data set that may be set while worker processes run.

A worker has its own copy of a data set, made when it was started. With
``DataLoader(…, persistent_workers=True)`` it stays for all epochs, and what is set on the
original later would never reach it.
"""

from contextlib import suppress
from typing import Any

import torch


class SharedNumber:
    """An integer attribute that all processes see as it was set last, by any of them."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._cell = f"_shared_{name}"

    def __get__(self, instance: object, owner: type) -> int:
        cell: _Cell = vars(instance)[self._cell]
        return int(cell.memory)

    def __set__(self, instance: object, value: int) -> None:
        cell = vars(instance).get(self._cell)
        if cell is None:
            vars(instance)[self._cell] = _Cell(value)
        else:
            cell.memory.fill_(int(value))


class _Cell:
    """Shared memory of one number. A copy has memory of its own, a worker the same."""

    def __init__(self, value: int) -> None:
        self.memory = _shared(int(value))

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Cell":
        return _Cell(int(self.memory))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # torch sends workers the memory itself; from plain pickle come the numbers alone
        memory = state["memory"]
        self.memory = memory if memory.is_shared() else _shared(int(memory))


def _shared(value: int) -> torch.Tensor:
    memory = torch.tensor(value, dtype=torch.int64)
    with suppress(RuntimeError):  # a machine without shared memory has no workers either
        memory.share_memory_()  # type: ignore[no-untyped-call]
    return memory
