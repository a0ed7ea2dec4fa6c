"""One tar of a release, with its index, its table and its vectors.

Belongs here: writing them, and telling whether they are there. Data are copied byte for
byte; headers are written anew, without the owners and times of who made the source, and
where keys change, the ``.json`` component gains the new key.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dali_index import format_index
from curation.errors import (
    InputError,
    NotFoundError,
    ReleaseMismatchError,
    SampleError,
    StaleError,
    TableError,
)
from curation.index import build_index
from curation.npy import write_npy
from curation.recipe import ReleaseSettings
from curation.release.extensions import UNIFIED, unified_extensions
from curation.release.json_key import MOST_BYTES, with_new_key
from curation.release.plan import PlannedShard, shard_name
from curation.release.sources import FilteredReader, rows_fingerprint
from curation.reshard import END_OF_ARCHIVE
from curation.sample_digests import (
    Changed,
    Crcs,
    damaged,
    part_crcs,
    read_tar_digest,
    recorded_components,
)
from curation.storage.base import (
    Buffer,
    ByteRange,
    Part,
    Storage,
    check_unchanged,
    near_parts,
    read_group,
    run_ahead,
    slices,
)
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_about, write_table
from curation.tar import read_members
from curation.tar_header import format_header

LOCAL_GAP, REMOTE_GAP = 8 << 10, 256 << 10  # bytes read along rather than asked around
READS_AHEAD = 4  # of metadata, each of at most MOST_BYTES

_MEND = (
    "Nothing is published. Restore that tar from a copy; a filtered shard is made again "
    "when its .tar, .idx and .parquet are deleted: `curate run`"
)


@dataclass(frozen=True)
class ReleaseFile:
    """One published file."""

    path: str
    """Relative to the release."""
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class ReleaseShard:
    """One published tar, and what belongs to it."""

    number: int
    num_samples: int
    fingerprint: str
    """Of what decides its bytes: two with the same one are the same."""
    files: tuple[ReleaseFile, ...]
    """Tar, ``.idx``, vectors if there are any, and last the table."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ReleaseShard":
        """Read what ``dataclasses.asdict`` gave."""
        files = tuple(ReleaseFile(**file) for file in values["files"])
        return cls(**{**values, "files": files})


@dataclass(frozen=True)
class Target:
    """Where a release is written, and how."""

    storage: Storage
    folder: str
    """Of the release."""
    settings: ReleaseSettings
    check: Callable[[], object] = tuple
    """Called before whatever is written appears; raises if it must not any more."""

    def path(self, name: str) -> str:
        """Give the place of one of its files in the storage."""
        return f"{self.folder}/{name}"


def vectors_name(shard: str) -> str:
    """Give the name of the file of vectors beside a tar, as clip-retrieval numbers it."""
    return f"img_emb_{shard}.npy"


def file_names(number: int, settings: ReleaseSettings) -> list[str]:
    """Name the files of one tar, in the order in which they are written."""
    name = shard_name(number)
    vectors = [vectors_name(name)] if settings.npy else []
    return [f"{name}.tar", f"{name}.idx", *vectors, f"{name}.parquet"]


def write_shard(
    filtered: FilteredReader, planned: PlannedShard, target: Target
) -> ReleaseShard:
    """Write one tar of a release from filtered shards, with what belongs to it.

    Args:
        filtered: Where the samples are.
        planned: Which samples, and their new keys.
        target: Where to.

    Raises:
        StaleError: A filtered shard is not what was planned with, or changes meanwhile.
        NotFoundError: A filtered shard is gone.
        ReleaseMismatchError: What was written reads back as something else.
        SampleError: A sample's bytes are not those that are on record.
    """
    table, crcs = part_crcs(_table(filtered, planned))
    renumber, unify = (
        target.settings.keys == "renumber",
        target.settings.extensions == "unify",
    )
    names = _unified(filtered, planned, table) if unify else None
    parts = _parts(filtered, planned, table, names, crcs, new_keys=renumber)
    if unify:
        table = _with_unified(table)
    used = [filtered.index(shard).file for shard in _sources(planned)]

    def check() -> None:
        for file in used:
            check_unchanged(filtered.storage, file)
        target.check()

    tar = target.path(f"{planned.name}.tar")
    target.storage.write_parts(tar, [*parts, END_OF_ARCHIVE], check)
    return finish_shard(planned, table, target, filtered.tar, crcs)


def finish_shard(
    planned: PlannedShard,
    table: pa.Table,
    target: Target,
    copied_from: Callable[[str], str],
    crcs: Crcs,
) -> ReleaseShard:
    """Write what belongs to a tar that is there; the table, which says so, comes last.

    The tar is read back, and its samples are compared with what is on record of them.

    Args:
        planned: What the tar must hold.
        table: Its rows, in the order of the tar, with the new keys.
        target: Where to.
        copied_from: Gives the path of the tar that holds the samples of a raw shard.
        crcs: What is on record of the samples' components, beside the table.

    Raises:
        ReleaseMismatchError: The tar holds other samples than planned.
        SampleError: A sample's bytes are not those that are on record.
        InputError: Vectors are to be written, and the table has none.
    """
    storage, settings = target.storage, target.settings
    names = file_names(planned.number, settings)
    index = build_index(read_members(storage, target.path(names[0])))
    if index.keys != planned.samples["key"].to_pylist() or len(index.losses):
        raise ReleaseMismatchError(
            f"{storage.url}/{target.path(names[0])}: {planned.samples.num_rows} samples "
            f"were to be written, and {len(index)} others read back; keep the file and "
            "report this as a fault of this program",
            path=names[0],
        )
    recorded = recorded_components(index, table, crcs)
    tar = read_tar_digest(storage, target.path(names[0]), recorded)
    if tar.changed:
        storage.delete(target.path(names[0]))
        raise _damaged(planned, tar.changed, storage, copied_from)
    target.check()
    storage.write(target.path(names[1]), format_index(index))
    if settings.npy:
        write_npy(storage, target.path(names[2]), _vectors(table, target.folder))
    files = [ReleaseFile(names[0], tar.num_bytes, tar.sha256)]
    files += [describe_file(target, name) for name in names[1:-1]]
    target.check()
    write_table(
        storage,
        target.path(names[-1]),
        FILTERED,
        table,
        fingerprint=planned.fingerprint,
        files=[asdict(file) for file in files],
        rows=dict(planned.rows),
    )
    files.append(describe_file(target, names[-1]))
    return ReleaseShard(planned.number, table.num_rows, planned.fingerprint, tuple(files))


def find_shard(number: int, fingerprint: str, target: Target) -> ReleaseShard | None:
    """Find a tar that an interrupted run completed; None if it did not."""
    storage = target.storage
    *others, table = file_names(number, target.settings)
    try:
        about = read_about(storage, target.path(table))
        if about.get("fingerprint") != fingerprint:
            return None
        files = [ReleaseFile(**file) for file in about["files"]]
        sizes = [storage.stat(target.path(name)).size for name in others]
    except (NotFoundError, TableError):
        return None
    if [(f.path, f.num_bytes) for f in files] != list(zip(others, sizes, strict=True)):
        return None
    files.append(describe_file(target, table))
    return ReleaseShard(number, about["num_rows"], fingerprint, tuple(files))


def describe_file(target: Target, name: str) -> ReleaseFile:
    """Give the size and the sha256 of a file, read back from where it was written."""
    return hash_file(target.storage, target.path(name), name)


def hash_file(storage: Storage, path: str, name: str) -> ReleaseFile:
    """Read a stored file once, and give its size and sha256 under a name.

    Raises:
        NotFoundError: There is no such file.
    """
    found = read_tar_digest(storage, path)
    return ReleaseFile(name, found.num_bytes, found.sha256)


def _damaged(
    planned: PlannedShard,
    changed: Sequence[Changed],
    storage: Storage,
    copied_from: Callable[[str], str],
) -> SampleError:
    """Say which sample is damaged, by the key and the tar that it was copied from."""
    samples = planned.samples
    row = samples["key"].to_pylist().index(changed[0].key)
    shard, key = samples["source_shard"][row].as_py(), samples["source_key"][row].as_py()
    named = replace(changed[0], key=key)
    where = f"{storage.url}/{copied_from(shard)}"
    return damaged(where, [named, *changed[1:]], shard, _MEND)


def _sources(planned: PlannedShard) -> list[str]:
    shards: list[str] = pc.unique(planned.samples["source_shard"]).to_pylist()
    return shards


def _table(filtered: FilteredReader, planned: PlannedShard) -> pa.Table:
    """Put together the rows of a tar, with new keys beside the old ones."""
    samples = planned.samples
    owners = samples["source_shard"].combine_chunks()
    tables, places = [], []
    for shard in _sources(planned):
        here = np.flatnonzero(pc.equal(owners, shard).to_numpy(zero_copy_only=False))
        mine = samples.take(pa.array(here))
        table = filtered.table(shard)
        rows = table.take(mine["row"]) if _is_as_planned(table, mine) else None
        if rows is None or rows_fingerprint(table) != planned.rows[shard]:
            raise StaleError(
                f"{filtered.storage.url}/{filtered.tar(shard)}: the filtered shard was "
                "made again while it is released; make the release again"
            )
        tables.append(rows)
        places.append(here)
    order = np.argsort(np.concatenate(places), kind="stable")
    found = pa.concat_tables(tables, promote_options="default").take(pa.array(order))
    columns = {name: found[name] for name in found.column_names}
    first = {
        "key": samples["key"],
        "source_shard": samples["source_shard"],
        "source_key": samples["source_key"],
        "source_ranges": columns.pop("source_ranges"),
        "position": samples["position"],
    }
    rest = {name: column for name, column in columns.items() if name not in first}
    return pa.table(first | rest).combine_chunks()


def _is_as_planned(table: pa.Table, samples: pa.Table) -> bool:
    """Tell whether the rows of a filtered shard are of the samples that were planned."""
    if pc.max(samples["row"]).as_py() >= len(table):
        return False
    keys = table["key"].take(samples["row"])
    same: bool = keys.combine_chunks().equals(samples["source_key"].combine_chunks())
    return same


def _vectors(table: pa.Table, where: str) -> np.ndarray:
    """Give ``(N, dim)`` float16, a row per sample."""
    if EMBEDDING not in table.column_names:
        raise InputError(
            f"{where}: release.npy needs vectors, which the filtered shards lack; set "
            "filtered.embeddings: true"
        )
    vectors, valid = embedding_matrix(table[EMBEDDING])
    # nobody shall take a vector that isn't there for one
    return vectors if valid.all() else np.where(valid[:, None], vectors, np.float16("nan"))


class _Member(NamedTuple):  # made in a third of the time of a dataclass
    """One component of a sample in a filtered tar."""

    path: str
    extension: str
    data_start: int
    size: int
    end: int


def _metadata_of(members: Sequence[_Member], extensions: Sequence[str]) -> list[_Member]:
    """Find the sample's metadata, if it can be given a key; else nothing."""
    there = {member.extension.lower() for member in members}
    first = next((name for name in extensions if name.lower() in there), "")
    return [
        member
        for member in members
        if member.extension.lower() == first.lower() and 0 < member.size <= MOST_BYTES
    ]


_PLACES = ("data_start", "size", "end")


def _members(filtered: FilteredReader, planned: PlannedShard) -> list[list[_Member]]:
    """Look up the components of every sample, in the order of the tar."""
    columns: dict[str, tuple[list[int], list[str], list[list[int]]]] = {}
    for shard in _sources(planned):
        index = filtered.index(shard)
        components = index.components
        columns[shard] = (
            index.sample_starts.tolist(),
            components["extension"].to_pylist(),
            [components[name].to_pylist() for name in _PLACES],
        )
    found = []
    samples = planned.samples
    for shard, row in zip(
        samples["source_shard"].to_pylist(), samples["row"].to_pylist(), strict=True
    ):
        starts, extensions, (data, sizes, ends) = columns[shard]
        path = filtered.tar(shard)
        found.append(
            [
                _Member(path, extensions[i], data[i], sizes[i], ends[i])
                for i in range(starts[row], starts[row + 1])
            ]
        )
    return found


_IMAGE_EXTENSION = "image_extension"  # as embeddings name it


def _unified(
    filtered: FilteredReader, planned: PlannedShard, table: pa.Table
) -> list[list[str]]:
    """Give the extensions that the components of every sample are to have."""
    images = [None] * len(table)
    if _IMAGE_EXTENSION in table.column_names:
        images = table[_IMAGE_EXTENSION].to_pylist()
    samples = _members(filtered, planned)
    return [
        unified_extensions([member.extension for member in members], image)
        for members, image in zip(samples, images, strict=True)
    ]


def _with_unified(table: pa.Table) -> pa.Table:
    """Let the table say what images are called now."""
    if _IMAGE_EXTENSION not in table.column_names:
        return table
    at = table.column_names.index(_IMAGE_EXTENSION)
    there = table[_IMAGE_EXTENSION].is_valid()
    names = pc.if_else(there, UNIFIED, pa.scalar(None, pa.string()))
    return table.set_column(at, _IMAGE_EXTENSION, names).combine_chunks()


def _parts(
    filtered: FilteredReader,
    planned: PlannedShard,
    table: pa.Table,
    extensions: list[list[str]] | None,
    crcs: Crcs,
    *,
    new_keys: bool,
) -> Iterator[Part]:
    """Write new headers; copy data with their padding.

    Where metadata get the new key, their CRC-32 in ``crcs`` is compared and replaced.
    """
    storage = filtered.storage
    samples = _members(filtered, planned)
    if extensions is None:
        extensions = [[member.extension for member in members] for members in samples]
    named = filtered.metadata_extensions
    metadata = [m for members in samples for m in _metadata_of(members, named)]
    read = _read_json(storage, metadata if new_keys else [])
    keys = planned.samples["key"].to_pylist()
    sources = zip(
        planned.samples["source_shard"].to_pylist(),
        planned.samples["source_key"].to_pylist(),
        table["source_ranges"].to_pylist(),
        strict=True,
    )
    rows = zip(keys, samples, extensions, sources, crcs, strict=True)
    for key, members, own, source, crc in rows:
        for place, (member, extension) in enumerate(zip(members, own, strict=True)):
            name = f"{key}.{extension}"
            data = read.get((member.path, member.data_start))
            if data is None:
                yield format_header(name, member.size)
                yield ByteRange(storage, member.path, member.data_start, member.end)
            else:
                text = with_new_key(data, key, _source_json(*source))
                if crc:
                    _compare_metadata(filtered, member, source[:2], data, crc[place])
                    crc[place] = zlib.crc32(text)
                yield format_header(name, len(text)) + text + bytes(-len(text) % 512)


def _compare_metadata(
    filtered: FilteredReader,
    member: _Member,
    source: tuple[str, str],
    data: bytes,
    expected: int | None,
) -> None:
    """Make sure that metadata are those on record, since they are released as others."""
    found, (shard, key) = zlib.crc32(data), source
    if expected is not None and found != expected:
        text = f"CRC-32 {expected:08x} is on record, found {found:08x}"
        where = f"{filtered.storage.url}/{member.path}"
        raise damaged(where, [Changed(key, member.extension, text)], shard, _MEND)


def _source_json(
    shard: str, key: str, ranges: Sequence[Mapping[str, int]]
) -> dict[str, Any]:
    places = [[place["start"], place["stop"]] for place in ranges]
    return {"shard": shard, "key": key, "ranges": places}


def _read_json(
    storage: Storage, members: Sequence[_Member]
) -> dict[tuple[str, int], bytes]:
    """Read metadata in few reads: by path and start."""
    ranges = sorted(
        (ByteRange(storage, m.path, m.data_start, m.data_start + m.size) for m in members),
        key=lambda part: (part.path, part.start),
    )
    local = bool(members) and storage.local_path(members[0].path) is not None
    gap = LOCAL_GAP if local else REMOTE_GAP
    groups = near_parts(ranges, block=MOST_BYTES, gap=gap)
    if local:
        reads = _local_reads(
            storage, groups
        )  # take less time than handing them to a thread
    else:
        reads = run_ahead((partial(_read_group, group) for group in groups), READS_AHEAD)
    found = {}
    for group, blocks in reads:
        for part, block in zip(group, blocks, strict=True):
            found[part.path, part.start] = bytes(block)
    return found


_Read = tuple[list[ByteRange], Sequence[Buffer]]


def _local_reads(storage: Storage, groups: Iterator[list[ByteRange]]) -> Iterator[_Read]:
    """Read runs of ranges of local files, each of which is opened once."""
    for path, runs in groupby(groups, lambda group: group[0].path):
        with storage.open_reader(path) as file:
            for group in runs:
                first, last = group[0].start, group[-1].stop
                yield group, slices(group, os.pread(file.fileno(), last - first, first))


def _read_group(group: list[ByteRange]) -> _Read:
    return group, read_group(group)
