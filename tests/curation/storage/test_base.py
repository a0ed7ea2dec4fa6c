"""What all storages share."""

import threading
from concurrent.futures import ThreadPoolExecutor

from curation.storage.base import once_per_process


class Owner:
    """Something with connections."""


def test_threads_that_come_together_get_the_same_connection() -> None:
    owner, together = Owner(), threading.Barrier(8)

    def connect() -> object:
        together.wait()  # all of them are making one at the same time
        return object()

    def ask(_: int) -> object:
        return once_per_process(owner, "_connection", connect)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(ask, range(8))))) == 1
