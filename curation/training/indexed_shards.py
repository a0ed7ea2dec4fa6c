"""All samples of a training set by number: their keys, and where their components lie.

Numbers run through the shards in the order given, and through each shard in the order of
its tar. Places are arrays, a few dozen bytes a sample, which worker processes share.
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dali_index import IndexEntry, check_index_fits, parse_index
from curation.errors import IndexFormatError, InputError, NotFoundError
from curation.index import build_index, split_names
from curation.storage.base import StoredFile
from curation.tar import read_members
from curation.training.shard_urls import ShardFile

log = logging.getLogger(__name__)

INDEXING_THREADS = (
    8  # for storage that answers slowly; a local tar is read by one at a time
)
SETTLED_NS = 2_000_000_000  # longer than the steps in which any file system tells time
KEY = "__key__"  # what webdataset calls the key among a sample's components


@dataclass(frozen=True)
class Places:
    """Where one component of every sample lies in its shard."""

    starts: np.ndarray
    """``(N,)`` int64: first byte; -1 for samples that don't have it."""
    sizes: np.ndarray
    """``(N,)`` int64: bytes."""


@dataclass(frozen=True)
class IndexedShards:
    """The samples of some shards."""

    shards: tuple[ShardFile, ...]
    files: tuple[StoredFile, ...]
    """What each shard was when it was indexed."""
    counts: tuple[int, ...]
    """Samples of each shard."""
    keys: pa.ChunkedArray
    """A chunk per shard."""
    places: Mapping[str, Places]
    """By the names that were asked for."""
    sample_bytes: float
    """Bytes of a sample in its tar, on average."""
    marks: tuple[tuple[int, int] | None, ...]
    """Of each shard as :func:`change_mark` gives it: None where it is elsewhere, or was
    changed just before it was indexed."""

    @property
    def num_samples(self) -> int:
        """Samples of all shards."""
        return len(self.keys)

    @cached_property
    def starts(self) -> np.ndarray:
        """``(shards + 1,)`` int64: number of the first sample of each shard, and N."""
        return np.cumsum([0, *self.counts])

    @cached_property
    def is_local(self) -> bool:
        """Whether any sample can be read as soon as any other."""
        return all(shard.storage.local_path(shard.path) for shard in self.shards)

    def shards_of(self, samples: np.ndarray) -> np.ndarray:
        """Give the shard of each sample, by its place in :attr:`shards`."""
        found: np.ndarray = np.searchsorted(self.starts, samples, side="right") - 1
        return found

    def name(self, sample: int) -> str:
        """Say which sample a number is, for a person."""
        shard = self.shards[int(self.shards_of(np.array([sample]))[0])]
        return f"{shard.url}: sample {self.keys[sample].as_py()}"


def index_shards(
    shards: Sequence[ShardFile], wanted: Mapping[str, Sequence[str]]
) -> IndexedShards:
    """Find every sample of some shards.

    A local tar is walked from header to header. Of one elsewhere the ``.idx`` beside it
    is read, if it is there and fits; without it the whole tar has to be read once.

    Args:
        shards: Tars, in the order in which their samples are to be numbered.
        wanted: Which components to remember: a name for them, and the extensions that
            they may have, in any case; the first that a sample has counts.

    Raises:
        NotFoundError: There is no such tar.
        ShardError: One is damaged or cut short; it has the offset.
        InputError: The shards have no samples.
    """
    with ThreadPoolExecutor(INDEXING_THREADS) as threads:
        found = list(threads.map(lambda shard: _index_shard(shard, wanted), shards))
    counts = tuple(len(shard.keys) for shard in found)
    if not sum(counts):
        raise InputError(f"{shards[0].url} and {len(shards) - 1} more have no samples")
    places = {
        name: Places(
            np.concatenate([shard.places[name].starts for shard in found]),
            np.concatenate([shard.places[name].sizes for shard in found]),
        )
        for name in wanted
    }
    keys = pa.chunked_array([shard.keys for shard in found], pa.string())
    total_bytes = sum(shard.tar_bytes for shard in found)
    files = tuple(shard.file for shard in found)
    sample_bytes = total_bytes / sum(counts)
    marks = tuple(shard.mark for shard in found)
    return IndexedShards(tuple(shards), files, counts, keys, places, sample_bytes, marks)


def change_mark(stat: os.stat_result) -> tuple[int, int]:
    """Give what differs after any change of a local file: its inode, and when it was.

    Unlike the time of its content, nobody can set that time back.
    """
    return stat.st_ino, stat.st_ctime_ns


@dataclass(frozen=True)
class _Indexed:
    file: StoredFile
    keys: pa.StringArray
    places: dict[str, Places]
    tar_bytes: int
    mark: tuple[int, int] | None


@dataclass(frozen=True)
class _Components:
    """The components of one shard, a column each."""

    file: StoredFile
    keys: pa.StringArray
    """Of the samples."""
    sample: np.ndarray
    extension: pa.StringArray
    start: np.ndarray
    size: np.ndarray


def _index_shard(shard: ShardFile, wanted: Mapping[str, Sequence[str]]) -> _Indexed:
    local = shard.storage.local_path(shard.path)
    mark = _settled_mark(local) if local else None
    components = (None if local else _by_dali_index(shard)) or _by_walking(shard)
    extensions = pc.utf8_lower(components.extension)
    places = {
        name: _places(components, extensions, accepted) for name, accepted in wanted.items()
    }
    tar_bytes = int((components.start + components.size).max(initial=0))
    return _Indexed(components.file, components.keys, places, tar_bytes, mark)


def _settled_mark(tar: Path) -> tuple[int, int] | None:
    """Mark a tar that was left alone for a while: a change to come gets another time."""
    try:
        stat = tar.stat()
    except OSError:
        return None  # walking it tells why
    return change_mark(stat) if time.time_ns() - stat.st_ctime_ns > SETTLED_NS else None


def _by_walking(shard: ShardFile) -> _Components:
    index = build_index(read_members(shard.storage, shard.path))
    if len(index.losses):
        log.warning(
            "%s: %d members belong to no sample: %s (%s)",
            shard.url,
            len(index.losses),
            index.losses["name"][0].as_py(),
            index.losses["loss"][0].as_py(),
        )
    rows = index.components
    return _Components(
        index.file,
        pa.array(index.keys, pa.string()),
        rows["sample"].to_numpy(),
        rows["extension"].combine_chunks(),
        rows["data_start"].to_numpy(),
        rows["size"].to_numpy(),
    )


def _by_dali_index(shard: ShardFile) -> _Components | None:
    path = f"{shard.path.removesuffix('.tar')}.idx"
    file = shard.storage.stat(shard.path)
    try:
        text = shard.storage.read(path)
    except NotFoundError:
        log.info("%s: no .idx beside it; the whole tar is read once", shard.url)
        return None
    try:
        samples = parse_index(text, shard.path)
        check_index_fits(samples, shard.storage, shard.path)
    except IndexFormatError as error:
        log.warning("%s; the whole tar is read once instead", error)
        return None
    entries = [entry for sample in samples for entry in sample]
    if not all(entry.name for entry in entries):  # version 1.1 has no keys
        return None
    return _from_entries(file, samples, entries)


def _from_entries(
    file: StoredFile,
    samples: Iterable[Sequence[IndexEntry]],
    entries: Sequence[IndexEntry],
) -> _Components:
    sizes = [len(sample) for sample in samples]
    keys, _ = split_names(pa.array([entry.name for entry in entries], pa.string()))
    first = np.cumsum([0, *sizes])[:-1]
    return _Components(
        file,
        keys.take(pa.array(first)),
        np.repeat(np.arange(len(sizes)), sizes),
        pa.array([entry.extension for entry in entries], pa.string()),
        np.array([entry.start for entry in entries], np.int64),
        np.array([entry.size for entry in entries], np.int64),
    )


def _places(
    components: _Components, extensions: pa.StringArray, accepted: Sequence[str]
) -> Places:
    starts = np.full(len(components.keys), -1, np.int64)
    sizes = np.zeros(len(components.keys), np.int64)
    for extension in reversed(accepted):  # what is written last counts
        same = pc.equal(extensions, extension.lower())
        rows = np.flatnonzero(same.to_numpy(zero_copy_only=False))[::-1]
        samples = components.sample[rows]
        starts[samples], sizes[samples] = components.start[rows], components.size[rows]
    return Places(starts, sizes)
