"""The samples of a shard, by byte range.

Belongs here: which members make a sample, and under which key. How members are found in a
tar belongs in ``tar.py``, DALI's ``.idx`` in ``dali_index.py``, and reading a sample's
bytes in ``samples.py``.

A key is a member's name up to the first dot of its base name, folders and ``./``
included; the extension is the rest. That is webdataset's rule and DALI's. A sample is all
members with one key, wherever they lie. What belongs to no sample is a loss with a
reason: nothing is left out in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.storage.base import Storage, StoredFile
from curation.tables import CATALOG, read_about, read_table, write_table
from curation.tar import Members
from curation.tar_header import DIRECTORY, FILE, GLOBAL, PAX, SPARSE
from curation.tar_walk import Loss


@dataclass(frozen=True)
class ShardIndex:
    """Where every component of every sample of a shard lies, and what belongs to none."""

    file: StoredFile
    """The shard's path, size and version when it was indexed."""
    catalog: pa.Table
    """A ``CATALOG`` table."""
    global_headers: tuple[tuple[int, int], ...] = ()
    """Byte ranges of pax headers that apply to all members after them, and name none."""

    @cached_property
    def components(self) -> pa.Table:
        """The rows of the catalog that belong to samples, sample after sample."""
        return self.catalog.slice(0, self.catalog["loss"].null_count)

    @cached_property
    def losses(self) -> pa.Table:
        """The rows of the catalog that belong to none."""
        return self.catalog.slice(self.catalog["loss"].null_count)

    @cached_property
    def sample_starts(self) -> np.ndarray:
        """``(samples + 1,)`` int64: sample i is ``components[starts[i]:starts[i + 1]]``."""
        numbers = self.components["sample"].to_numpy()
        return np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), len(numbers))

    @cached_property
    def keys(self) -> list[str]:
        """The key of each sample, in their order."""
        keys: list[str] = self.components["key"].take(self.sample_starts[:-1]).to_pylist()
        return keys

    def __len__(self) -> int:
        return len(self.sample_starts) - 1


def build_index(members: Members) -> ShardIndex:
    """Put the members of a shard together to samples.

    Samples come in the order of their first members, components in the order of the tar.
    These members belong to no sample and are losses: hidden files (the base name begins
    with a dot), names without an extension, links, sparse files, those whose name or size
    is in doubt for a pax header, whatever else is no file, and a key with an extension that
    the sample has already. Directories and an archive's label are not even losses. Of a
    salvaged shard, the last sample before the damage is a loss too: nobody knows whether
    it had further members.
    """
    keys, extensions = split_names(members.names)
    table = pa.table(
        {
            "key": keys,
            "extension": extensions,
            "name": members.names,
            "header_start": members.header_starts,
            "data_start": members.data_starts,
            "size": members.sizes,
            "end": members.ends,
        }
    )
    usable = table["key"].is_valid().to_numpy() & (members.kinds == FILE)
    uncertain = np.zeros(len(table), bool)
    if members.damage and usable.any():
        last_key = table["key"][int(np.flatnonzero(usable)[-1])]
        is_last = pc.equal(table["key"], last_key).fill_null(False)
        uncertain = usable & is_last.to_numpy()
    rows, samples = _components(table, np.flatnonzero(usable & ~uncertain))
    lost = np.ones(len(table), bool)
    lost[rows] = False
    lost[np.isin(members.kinds, _NO_CONTENT)] = False
    components = _taken(table, rows).append_column("sample", pa.array(samples))
    losses = _losses(table, members, np.flatnonzero(lost), uncertain)
    schema = pa.schema(CATALOG.columns)
    catalog = pa.concat_tables([components, losses], promote_options="default")
    catalog = catalog.select(schema.names).cast(schema).combine_chunks()
    return ShardIndex(members.file, catalog, members.global_headers)


def index_without_samples(members: Members) -> ShardIndex:
    """Give up all samples of a damaged shard: its index is one loss, the whole tar.

    Args:
        members: With their damage.
    """
    reason = members.damage.reason if members.damage else "not used"
    whole = Loss(0, members.file.size, "", reason)
    none = np.empty(0, np.int64)
    empty = Members(members.file, members.names[:0], none, none, none, none, damage=whole)
    return build_index(empty)


def split_names(names: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray]:
    """Split names at the first dot of their base names.

    Returns:
        Keys and extensions; both null where either would be empty.
    """
    _, offsets, characters = names.buffers()
    cuts = np.frombuffer(offsets, np.int32)[names.offset :][: len(names) + 1]
    starts, stops = cuts[:-1], cuts[1:]
    text = np.frombuffer(characters or b"", np.uint8)
    # sentinels stand for the slash before the first name and the dot after the last
    slashes = np.append(-1, np.flatnonzero(text == ord("/")))
    dots = np.append(np.flatnonzero(text == ord(".")), len(text))
    last_slashes = slashes[np.searchsorted(slashes, stops) - 1]
    bases = np.maximum(last_slashes + 1, starts)
    dots = dots[np.searchsorted(dots, bases)]
    named = (bases < dots) & (dots < stops - 1)
    # cut at these places, the text is: key, dot, extension, key, dot, extension …
    places = [starts, np.where(named, dots, starts), np.where(named, dots + 1, starts)]
    cuts = np.append(np.stack(places, axis=1), cuts[-1:]).astype(np.int32)
    pieces = pa.StringArray.from_buffers(len(cuts) - 1, pa.py_buffer(cuts), characters)
    keys = pa.array(3 * np.arange(len(names)), mask=~named)
    return pieces.take(keys), pieces.take(pc.add(keys, 2))


def write_catalog(
    storage: Storage, path: str, index: ShardIndex, *, fingerprint: str
) -> None:
    """Write an index as a ``CATALOG`` table file that :func:`read_catalog` reads."""
    write_table(
        storage,
        path,
        CATALOG,
        index.catalog,
        fingerprint=fingerprint,
        shard=index.file.path,
        shard_bytes=index.file.size,
        shard_version=index.file.version,
        global_headers=index.global_headers,
    )


def read_catalog(storage: Storage, path: str) -> ShardIndex:
    """Read the index that :func:`write_catalog` wrote.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is no Parquet file, or another kind of table.
    """
    catalog = read_table(storage, path, CATALOG).combine_chunks()
    about = read_about(storage, path)
    file = _indexed_file(about)
    headers = tuple((start, stop) for start, stop in about["global_headers"])
    return ShardIndex(file, catalog.replace_schema_metadata(), headers)


def read_indexed_file(storage: Storage, path: str) -> StoredFile:
    """Tell which version of its shard a catalog is of, whose places mean that alone.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is no Parquet file.
    """
    return _indexed_file(read_about(storage, path))


def _indexed_file(about: Mapping[str, Any]) -> StoredFile:
    return StoredFile(about["shard"], about["shard_bytes"], about["shard_version"])


def _components(table: pa.Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the rows that are components, sample after sample, and number the samples."""
    usable = _taken(table, rows)
    numbers = _codes(usable["key"])
    extensions = _codes(usable["extension"])
    pairs = numbers.astype(np.int64) * (extensions.max(initial=0) + 1) + extensions
    _, first = np.unique(pairs, return_index=True)
    first.sort()
    order = first[np.argsort(numbers[first], kind="stable")]
    return rows[order], numbers[order]


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Number the values of a column in the order in which they first come."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: np.ndarray = encoded.indices.to_numpy()
    return codes


def _taken(table: pa.Table, rows: np.ndarray) -> pa.Table:
    unchanged = len(rows) == len(table) and (rows == np.arange(len(rows))).all()
    return table if unchanged else table.take(rows)


def _losses(
    table: pa.Table, members: Members, rows: np.ndarray, uncertain: np.ndarray
) -> pa.Table:
    """Say of every member that no sample has, and of all damage, why."""
    lost = table.take(rows)
    reasons = [
        "its sample may have had members behind the damage"
        if uncertain[row]
        else _reason(int(members.kinds[row]), name)
        for row, name in zip(rows, lost["name"].to_pylist(), strict=True)
    ]
    found = [loss for loss in (members.damage, members.trailing) if loss]
    bytes_lost = pa.table(
        {
            "name": pa.array([loss.name for loss in found], pa.string()),
            "header_start": pa.array([loss.start for loss in found], pa.int64()),
            "data_start": pa.array([loss.start for loss in found], pa.int64()),
            "size": pa.array([loss.stop - loss.start for loss in found], pa.int64()),
            "end": pa.array([loss.stop for loss in found], pa.int64()),
        }
    )
    both = pa.concat_tables([lost, bytes_lost], promote_options="default")
    reasons += [loss.reason for loss in found]
    return both.append_column("loss", pa.array(reasons, pa.string()))


_NO_CONTENT = (DIRECTORY, *b"DV")
"""GNU tar writes ``D`` for a directory with a list of what is in it, ``V`` for a label."""

_REASONS = {
    **dict.fromkeys(b"12", "a link: what it points to is not followed"),
    SPARSE: "a sparse file: its data is stored in pieces",
    PAX: "its pax header is wrong, which may have had another name for it",
    GLOBAL: "a global pax header has a name or size for all members after it, this one too",
}


def _reason(kind: int, name: str) -> str:
    """Say why a member belongs to no sample, although no damage is near."""
    base = name.rpartition("/")[2]
    if kind != FILE:
        return _REASONS.get(kind, f"no file, but a member of type {chr(kind)!r}")
    if base.startswith("."):
        return "hidden: its name begins with a dot"
    if not base.partition(".")[2]:
        return "its name has no extension"
    return "repeated: its sample has that extension already"
