"""Reading components of samples in any order, from local tars or from far away.

Where a component lies was found when the tar was indexed, which may be days ago. So what
is read is believed only if the tar has the size and the version that it had then, and the
component's own header, with its key and its length, still stands before it. Headers of
local tars are looked at only if anything was done to the tar since.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import Any, BinaryIO, cast

import numpy as np

from curation.errors import ShardError, StaleError, StorageError
from curation.storage import LocalStorage
from curation.storage.base import check_unchanged
from curation.tar import Members, read_members
from curation.tar_header import BLOCK, SIZE
from curation.training.indexed_shards import IndexedShards, Places, change_mark
from curation.training.shard_urls import ShardFile

MOST_GAP_BYTES = 1 << 16  # between components that are read at once
RUN_BYTES = 1 << 22  # of a local tar, read at once
OPEN_TARS = 256  # local files held open; systems allow 1024 and more
BLOCK_BYTES = 1 << 20  # of a tar elsewhere, held as one
RUN_BLOCKS = 8  # fetched by one request
REQUESTS_AT_ONCE = 8
FEWEST_BLOCKS = 16  # held, for batches that follow each other in a tar


class SampleBytes:
    """Reads components by sample number. Each process that uses it opens its own files.

    Args:
        indexed: The samples.
    """

    def __init__(self, indexed: IndexedShards) -> None:
        self.indexed = indexed
        self._most_blocks = FEWEST_BLOCKS
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        self._near: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._held: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._key_text: dict[int, tuple[memoryview, memoryview]] = {}
        self._walked: dict[int, Members] = {}  # shards whose own headers don't say it all

    def hold(self, num_samples: int) -> None:
        """Hold about so many samples of tars elsewhere: those that are read mixed."""
        num_blocks = int(num_samples * self.indexed.sample_bytes / BLOCK_BYTES)
        # ranges of samples begin and end inside of blocks, and at the ends of tars
        self._most_blocks = max(FEWEST_BLOCKS, num_blocks * 5 // 4 + 4)

    def read(self, samples: np.ndarray, places: Places) -> list[bytes]:
        """Read one component of samples, which all have it.

        Raises:
            StaleError: A tar is not what it was when it was indexed.
            NotFoundError: A tar is gone.
            StorageError: Storage failed; the message names the sample.
        """
        shards = self.indexed.shards_of(samples).tolist()
        starts, sizes = places.starts[samples].tolist(), places.sizes[samples].tolist()
        wanted = list(zip(shards, starts, sizes, strict=True))
        if self.indexed.is_local:
            found = self._read_local(samples, wanted)
        else:
            found = self._read_elsewhere(samples, wanted)
        for data, (shard, start, size) in zip(found, wanted, strict=True):
            if len(data) != size:
                raise _too_short(self.indexed.shards[shard], start, size, len(data))
        return found

    def _read_local(
        self, samples: np.ndarray, wanted: Sequence[tuple[int, int, int]]
    ) -> list[bytes]:
        near = self._near
        if not all((shard, start) in near for shard, start, _ in wanted):
            near = self._near = self._read_near(samples)
        found = []
        for shard, start, size in wanted:
            data, first = near[shard, start]
            found.append(data[start - first : start - first + size])
        return found

    def _read_near(self, samples: np.ndarray) -> dict[tuple[int, int], tuple[bytes, int]]:
        """Read all components of samples, those that lie near each other at once.

        Returns:
            Shard and first byte of each component, to bytes of its tar and where in it
            they begin.
        """
        places = self.indexed.places.values()
        starts = np.stack([place.starts[samples] for place in places], axis=1)
        sizes = np.stack([place.sizes[samples] for place in places], axis=1)
        order = np.argsort(starts, axis=1)
        starts = np.take_along_axis(starts, order, axis=1)
        stops = starts + np.take_along_axis(sizes, order, axis=1)
        there = starts >= 0
        shards = np.repeat(self.indexed.shards_of(samples), there.sum(axis=1))
        starts, stops = starts[there], stops[there]
        apart = (np.diff(shards) != 0) | (np.diff(starts) < 0)
        apart |= starts[1:] - stops[:-1] > MOST_GAP_BYTES
        apart |= np.diff(starts // RUN_BYTES) != 0
        near: dict[tuple[int, int], tuple[bytes, int]] = {}
        of = np.repeat(samples, there.sum(axis=1))
        for begin, end in pairwise([0, *(np.flatnonzero(apart) + 1).tolist(), len(starts)]):
            shard, first = int(shards[begin]), int(starts[begin]) - BLOCK
            try:
                data = self._pread(shard, first, int(stops[begin:end].max()) - first)
            except StorageError as error:
                raise self._of_sample(error, int(of[begin])) from error
            near.update({(shard, s): (data, first) for s in starts[begin:end].tolist()})
        touched = [s for s in set(shards.tolist()) if not self._is_untouched(s)]
        if not touched:
            return near
        # one header of each sample is enough: nobody moves the others beside it
        is_lead = np.diff(of, prepend=-1) != 0
        leads = np.flatnonzero(is_lead & np.isin(shards, touched))
        wanted = [column[leads].tolist() for column in (shards, starts, stops - starts)]
        pieces = [near[shard, start] for shard, start in zip(*wanted[:2], strict=True)]
        self._check(of[leads].tolist(), list(zip(*wanted, strict=True)), pieces)
        return near

    def _read_elsewhere(
        self, samples: np.ndarray, wanted: Sequence[tuple[int, int, int]]
    ) -> list[bytes]:
        with_headers = [
            (shard, start - BLOCK, size + BLOCK) for shard, start, size in wanted
        ]
        try:
            self._fetch(_blocks(with_headers))
        except StorageError as error:
            places = zip(with_headers, samples.tolist(), strict=True)
            failed = next(s for p, s in sorted(places) if not self._holds(p))
            raise self._of_sample(error, failed) from error
        found = [self._from_blocks(*place) for place in with_headers]
        pieces = [
            (data, start - BLOCK) for data, (_, start, _) in zip(found, wanted, strict=True)
        ]
        self._check(samples.tolist(), wanted, pieces)
        return [data[BLOCK:] for data in found]

    def _check(
        self,
        samples: Sequence[int],
        places: Sequence[tuple[int, int, int]],
        pieces: Sequence[tuple[bytes, int]],
    ) -> None:
        """Make sure that bytes are of samples: each one's header stands before its place.

        Args:
            samples: By number.
            places: Shard, first byte and length of a component of each.
            pieces: Bytes of its tar, and where in it they begin.
        """
        starts, of_shard = self._starts, self._key_text
        for sample, place, (data, first) in zip(samples, places, pieces, strict=True):
            shard, start, size = place
            offsets, characters = of_shard.get(shard) or self._keys(shard)
            row = sample - starts[shard]
            name = characters[offsets[row] : offsets[row + 1]].tobytes() + b"."
            at = start - first - BLOCK
            if (
                data[at : at + len(name)] != name
                or data[at + SIZE.start : at + SIZE.stop - 1] != b"%011o" % size
            ):  # as nearly none
                self._look_up(name.decode(), place)

    def _keys(self, shard: int) -> tuple[memoryview, memoryview]:
        """Give the keys of a shard as Arrow holds them: where each begins, and all text."""
        keys = self.indexed.keys.chunk(shard)
        _, offsets, characters = keys.buffers()
        held = memoryview(offsets).cast("i")[keys.offset :], memoryview(characters)
        self._key_text[shard] = held
        return held

    def _look_up(self, name: str, place: tuple[int, int, int]) -> None:
        if not self._is_member(name, place):
            shard, start, size = place
            raise StaleError(
                f"{self.indexed.shards[shard].url}: at byte {start} there is no component "
                f"of {size} bytes of sample {name[:-1]} any more; the tar was replaced: "
                "begin again, so that it is indexed again"
            )

    def _is_member(self, name: str, place: tuple[int, int, int]) -> bool:
        """Look a component up in all that its tar's headers say, long names too."""
        shard, start, size = place
        file, tar = self.indexed.files[shard], self.indexed.shards[shard]
        if shard not in self._walked:
            check_unchanged(tar.storage, file)
            try:
                self._walked[shard] = read_members(tar.storage, tar.path)
            except ShardError:
                return False
        members = self._walked[shard]
        row = int(np.searchsorted(members.data_starts, start))
        return (
            row < len(members.data_starts)
            and (int(members.data_starts[row]), int(members.sizes[row])) == (start, size)
            and members.names[row].as_py().startswith(name)
        )

    def _of_sample(self, error: StorageError, sample: int) -> StorageError:
        return StorageError(f"{self.indexed.name(sample)}: {error}")

    @cached_property
    def _starts(self) -> list[int]:
        return cast(list[int], self.indexed.starts.tolist())

    def _holds(self, place: tuple[int, int, int]) -> bool:
        return all(block in self._held for block in _blocks([place]))

    def _from_blocks(self, shard: int, start: int, size: int) -> bytes:
        stop = start + size
        return b"".join(
            self._held[shard, block][
                max(start - block * BLOCK_BYTES, 0) : stop - block * BLOCK_BYTES
            ]
            for block in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
        )

    def _pread(self, shard: int, start: int, size: int) -> bytes:
        file = self._files.get(shard)
        if file is None:
            file = self._open(shard)
        try:
            return os.pread(file.fileno(), size, start)
        except OSError as error:
            url = self.indexed.shards[shard].url
            raise StorageError(f"{url} at byte {start}: {error.strerror}") from error

    def _is_untouched(self, shard: int) -> bool:
        """Tell whether nothing at all was done to a tar since it was indexed.

        If that is not sure, headers have to tell, at a fifth of the time of reading.

        Raises:
            StaleError: It has another size or time than it had then.
        """
        storage = cast(LocalStorage, self.indexed.shards[shard].storage)
        file = self._files.get(shard) or self._open(shard)
        stat = storage.check_open(file, self.indexed.files[shard])
        return change_mark(stat) == self.indexed.marks[shard]

    def _open(self, shard: int) -> BinaryIO:
        if len(self._files) >= OPEN_TARS:
            self._files.popitem(last=False)[1].close()
        place = self.indexed.shards[shard]
        file = self._files[shard] = place.storage.open_reader(place.path)
        return file

    def _fetch(self, blocks: list[tuple[int, int]]) -> None:
        """Hold blocks, and forget those that were asked for longest ago."""
        missing = [block for block in blocks if block not in self._held]
        if missing:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
                for found in threads.map(self._fetch_run, _runs(missing)):
                    self._held.update(found)
        for block in blocks:
            self._held.move_to_end(block)
        while len(self._held) > max(self._most_blocks, len(blocks)):
            self._held.popitem(last=False)

    def _fetch_run(self, run: tuple[int, int, int]) -> dict[tuple[int, int], bytes]:
        shard, first, last = run
        place = self.indexed.shards[shard]
        start = first * BLOCK_BYTES
        file = self.indexed.files[shard]
        data = place.storage.read_version(file, start, last * BLOCK_BYTES)
        return {
            (shard, block): data[block * BLOCK_BYTES - start :][:BLOCK_BYTES]
            for block in range(first, last)
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_files": OrderedDict(),
            "_held": OrderedDict(),
            "_near": {},
            "_key_text": {},
            "_walked": {},
        }

    def __del__(self) -> None:
        for file in self.__dict__.get("_files", {}).values():
            file.close()


def _blocks(wanted: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Give the blocks of components, in the order of shards and bytes."""
    found = {
        (shard, block)
        for shard, start, size in wanted
        for block in range(start // BLOCK_BYTES, -(-(start + size) // BLOCK_BYTES))
    }
    return sorted(found)


def _runs(blocks: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Join neighbours: shard, first block, and the one after the last."""
    shard, first, last = *blocks[0], blocks[0][1] + 1
    for next_shard, block in blocks[1:]:
        if (next_shard, block) != (shard, last) or last - first == RUN_BLOCKS:
            yield shard, first, last
            shard, first = next_shard, block
        last = block + 1
    yield shard, first, last


def _too_short(shard: ShardFile, start: int, size: int, found: int) -> StaleError:
    return StaleError(
        f"{shard.url}: {size} bytes were indexed at byte {start}, found {found}; the tar "
        "was replaced or cut: begin again, so that it is indexed again"
    )
