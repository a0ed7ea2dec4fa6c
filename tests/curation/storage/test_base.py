"""What all storages share: reading parts in order and ahead, connections of threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError
from curation.storage import ByteRange, MemoryStorage, Part
from curation.storage.base import (
    BLOCKS_AHEAD,
    COPY_GAP,
    once_per_process,
    part_blocks,
    run_ahead,
)

DATA = bytes(range(251)) * 200


class Counted(MemoryStorage):
    """Remembers how often it was read."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        vars(self)["num_reads"] = vars(self).get("num_reads", 0) + 1
        return super().read(path, start, stop)


def ranges(*cuts: tuple[int, int]) -> tuple[Counted, list[Part]]:
    storage = Counted()
    storage.write("from", DATA)
    return storage, [ByteRange(storage, "from", start, stop) for start, stop in cuts]


PLACES = st.tuples(st.integers(0, len(DATA)), st.integers(0, len(DATA))).map(sorted)


@given(st.lists(st.one_of(PLACES, st.binary(max_size=50))))
def test_blocks_are_the_parts_in_order(drawn: list[list[int] | bytes]) -> None:
    storage, _ = ranges()
    parts = [p if isinstance(p, bytes) else ByteRange(storage, "from", *p) for p in drawn]
    expected = [p if isinstance(p, bytes) else DATA[slice(*p)] for p in drawn]
    assert b"".join(part_blocks(parts)) == b"".join(expected)


def test_near_ranges_of_one_file_are_read_at_once() -> None:
    storage, parts = ranges((0, 100), (100, 200), (300, 400), (40_000, 50_000))
    assert b"".join(part_blocks(parts)) == DATA[:200] + DATA[300:400] + DATA[40_000:50_000]
    assert vars(storage)["num_reads"] == 1


def test_bytes_between_near_ranges_cost_no_read_of_their_own() -> None:
    storage, (first, second) = ranges((0, 100), (200, 300))
    parts: list[Part] = [b"a", first, b"b", b"c", second, b"d"]
    expected = b"a" + DATA[:100] + b"bc" + DATA[200:300] + b"d"
    assert b"".join(part_blocks(parts)) == expected
    assert vars(storage)["num_reads"] == 1


def test_ranges_that_lie_far_apart_or_backwards_are_read_alone() -> None:
    storage, parts = ranges((500, 600), (0, 100))
    storage.write("from", DATA + bytes(COPY_GAP) + DATA)
    far = len(DATA) + COPY_GAP
    parts.append(ByteRange(storage, "from", far + 1000, far + 1100))
    expected = DATA[500:600] + DATA[:100] + DATA[1000:1100]
    assert b"".join(part_blocks(parts)) == expected
    assert vars(storage)["num_reads"] == 3


def test_a_range_past_the_end_says_where_the_file_ends() -> None:
    _, parts = ranges((0, 100), (200, len(DATA) + 1))
    with pytest.raises(InputError, match=f"but the file ends at {len(DATA)}"):
        list(part_blocks(parts))


def test_results_come_in_order_and_no_more_calls_run_than_allowed() -> None:
    started: list[int] = []
    go_on = threading.Event()

    def call(number: int) -> int:
        started.append(number)
        go_on.wait()
        return number

    results = run_ahead((partial(call, number) for number in range(50)), BLOCKS_AHEAD)
    go_on.set()
    assert next(results) == 0
    assert len(started) <= BLOCKS_AHEAD + 1
    assert list(results) == list(range(1, 50))


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
