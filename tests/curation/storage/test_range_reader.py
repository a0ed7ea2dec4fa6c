"""A file of a server is read like one that is open."""

import io

from hypothesis import given
from hypothesis import strategies as st

from curation.storage import MemoryStorage
from curation.storage.range_reader import LEAST_AHEAD, MOST_AHEAD, RangeReader

DATA = bytes(range(251)) * 40_000  # 10 MB

PLACES = st.integers(0, len(DATA) + 10)
SIZES = st.integers(0, 50) | st.integers(0, 5 << 20)
CALLS = st.lists(
    st.tuples(st.just("read"), SIZES)
    | st.tuples(st.just("seek"), PLACES)
    | st.tuples(st.just("end"), PLACES)
    | st.tuples(st.just("on"), st.integers(0, 1000)),
    max_size=8,
)


class Counting(MemoryStorage):
    """Notes what is asked for."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        assert stop is not None
        asked.append((start, stop))
        return super().read(path, start, stop)


asked: list[tuple[int, int]] = []
STORAGE = Counting()
STORAGE.write("a", DATA)


@given(CALLS)
def test_it_reads_as_a_file_in_memory_does(calls: list[tuple[str, int]]) -> None:
    expected = io.BytesIO(DATA)
    found = io.BufferedReader(RangeReader(STORAGE, STORAGE.stat("a")), 100_000)
    for call, number in calls:
        if call == "read":
            assert found.read(number) == expected.read(number)
        elif call == "seek":
            assert found.seek(number) == expected.seek(number)
        elif call == "end":
            assert found.seek(-min(number, len(DATA)), 2) == expected.seek(
                -min(number, len(DATA)), 2
            )
        else:
            assert found.seek(number, 1) == expected.seek(number, 1)
        assert found.tell() == expected.tell()


def test_requests_grow_while_a_file_is_read_on_and_are_short_elsewhere() -> None:
    asked.clear()
    reader = RangeReader(STORAGE, STORAGE.stat("a"))
    while reader.read(64 << 10):
        pass
    sizes = [stop - start for start, stop in asked]
    assert sizes[:3] == [LEAST_AHEAD, 2 * LEAST_AHEAD, 4 * LEAST_AHEAD]
    assert max(sizes) <= MOST_AHEAD
    assert sum(sizes) == len(DATA)  # nothing is fetched twice
    asked.clear()
    reader.seek(5)
    reader.read(1)
    assert asked == [(5, 5 + LEAST_AHEAD)]
