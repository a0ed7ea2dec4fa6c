"""Samples: a key, where its components lie in the shard, and their bytes.

Belongs here: reading samples by byte range, in bounded memory, with reads ahead of their
use. Which members make a sample belongs in ``index.py``.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from curation.errors import StaleError
from curation.index import ShardIndex
from curation.storage.base import Buffer, Storage, StoredFile

MAX_COMPONENT_BYTES = 512 << 20  # what one member may make this process hold
BLOCK_BYTES = 8 << 20  # of components, read together
SPAN_BYTES = 16 << 20  # of one ranged read, what lies between components included
GAP_BYTES = 256 << 10  # read along with its neighbours rather than asked around
BLOCKS_AHEAD = 4  # being read while a block is used; hides the latency of S3


@dataclass(frozen=True, slots=True)
class Component:
    """Where one file of a sample lies in its shard."""

    extension: str
    """All after the first dot of the base name, as written: ``jpg``, ``seg.png``."""
    start: int
    """First byte of the file's data in the shard; a multiple of 512."""
    size: int
    """Length of the data in bytes, without padding."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample with the bytes of its components."""

    key: str
    components: tuple[Component, ...]
    """In the order of the tar, extensions unique."""
    contents: Mapping[str, bytes]
    """Extension to bytes, for the components that were asked for and are not larger than
    ``MAX_COMPONENT_BYTES``."""


def find_component(
    components: Sequence[Component], extensions: Sequence[str]
) -> Component | None:
    """Find the first of some extensions, in any case, that a sample has."""
    by_extension = {part.extension.lower(): part for part in reversed(components)}
    known = (by_extension.get(extension.lower()) for extension in extensions)
    return next((part for part in known if part is not None), None)


def read_samples(
    storage: Storage, path: str, index: ShardIndex, extensions: Collection[str]
) -> Iterator[Sample]:
    """Read the samples of a shard, in the order of its index.

    Reads run ahead in threads and join components that lie near each other. Memory is
    bounded by some blocks of 8 MiB and by the largest component.

    Args:
        storage: Where the tar is.
        path: Its path there.
        index: Of that tar.
        extensions: Of the components to read, in any case.

    Yields:
        Every sample of the index, also those that have no such component.

    Raises:
        StaleError: The tar is not the one that was indexed, or ends before a component
            does.
        NotFoundError: The tar is gone.
    """
    wanted = frozenset(extension.lower() for extension in extensions)
    file = replace(index.file, path=path)
    with ThreadPoolExecutor(BLOCKS_AHEAD) as threads:
        under_way: deque[tuple[list[_Unread], list[Future[_Contents]]]] = deque()
        for block in _blocks(index, wanted):
            reads = [
                threads.submit(_read_span, storage, file, span) for span in _spans(block)
            ]
            under_way.append((block, reads))
            if len(under_way) > BLOCKS_AHEAD:
                yield from _samples(*under_way.popleft())
        while under_way:
            yield from _samples(*under_way.popleft())


class PassingSamples:
    """The samples of a tar whose bytes go by, in order; one is held at a time.

    Args:
        index: Of the tar. The members of a sample lie side by side in it.
    """

    def __init__(self, index: ShardIndex) -> None:
        extensions = frozenset(
            extension.lower()
            for extension in index.components["extension"].unique().to_pylist()
        )
        self._samples = _unread(index, extensions)
        self._position = self._number = 0
        self._data = bytearray()
        self._contents: dict[str, bytes] = {}
        self._sample = next(self._samples, None)

    def see(self, block: Buffer) -> Iterator[Sample]:
        """Yield the samples whose last byte is in a block."""
        view, start = memoryview(block), self._position
        self._position += len(view)
        while self._sample is not None:
            part = self._sample.components[self._number]
            first, last = part.start - start, part.start + part.size - start
            if part in self._sample.wanted:
                self._data += view[max(first, 0) : max(last, 0)]
            if last > len(view):
                return
            yield from self._end_part(part)

    def _end_part(self, part: Component) -> Iterator[Sample]:
        assert self._sample is not None
        if part in self._sample.wanted:
            self._contents[part.extension] = bytes(self._data)
        self._data, self._number = bytearray(), self._number + 1
        if self._number == len(self._sample.components):
            yield Sample(self._sample.key, self._sample.components, self._contents)
            self._sample, self._number = next(self._samples, None), 0
            self._contents = {}


_Contents = dict[int, bytes]
"""Data of components, by where each starts."""


@dataclass(frozen=True, slots=True)
class _Unread:
    """A sample, and which of its components are to be read."""

    key: str
    components: tuple[Component, ...]
    wanted: tuple[Component, ...]


def _samples(block: list[_Unread], reads: list[Future[_Contents]]) -> Iterator[Sample]:
    contents: _Contents = {}
    for read in reads:
        contents |= read.result()
    for sample in block:
        read_here = {part.extension: contents[part.start] for part in sample.wanted}
        yield Sample(sample.key, sample.components, read_here)


def _blocks(index: ShardIndex, wanted: frozenset[str]) -> Iterator[list[_Unread]]:
    """Part the samples into runs whose wanted components together fill a block."""
    block: list[_Unread] = []
    block_bytes = 0
    for sample in _unread(index, wanted):
        sample_bytes = sum(part.size for part in sample.wanted)
        if block and block_bytes + sample_bytes > BLOCK_BYTES:
            yield block
            block, block_bytes = [], 0
        block.append(sample)
        block_bytes += sample_bytes
    if block:
        yield block


def _unread(index: ShardIndex, wanted: frozenset[str]) -> Iterator[_Unread]:
    rows = index.components
    columns = (rows[name].to_pylist() for name in ("extension", "data_start", "size"))
    components = list(map(Component, *columns))
    starts = index.sample_starts.tolist()
    for key, start, stop in zip(index.keys, starts, starts[1:], strict=False):
        parts = tuple(components[start:stop])
        to_read = (part for part in parts if part.extension.lower() in wanted)
        small = tuple(part for part in to_read if part.size <= MAX_COMPONENT_BYTES)
        yield _Unread(key, parts, small)


def _spans(block: list[_Unread]) -> Iterator[list[Component]]:
    """Join components that are better read at once."""
    components = sorted((p for s in block for p in s.wanted), key=lambda part: part.start)
    span: list[Component] = []
    for part in components:
        if span:
            end = span[-1].start + span[-1].size
            far = part.start - end > GAP_BYTES
            if far or part.start + part.size - span[0].start > SPAN_BYTES:
                yield span
                span = []
        span.append(part)
    if span:
        yield span


def _read_span(storage: Storage, file: StoredFile, span: list[Component]) -> _Contents:
    start, stop = span[0].start, span[-1].start + span[-1].size
    data = storage.read_version(file, start, stop)
    if len(data) != stop - start:
        raise StaleError(
            f"{storage.url}/{file.path}: its index has data up to byte {stop}, but the tar "
            f"ends at {start + len(data)}; the shard was replaced: make its index again"
        )
    return {p.start: data[p.start - start : p.start - start + p.size] for p in span}
