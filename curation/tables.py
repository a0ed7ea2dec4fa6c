"""The Arrow schema of every table, and the one way to read or write one.

A table is one Parquet file. Its schema's metadata holds, as JSON under the key
``curation``, what it is (``table``, ``version``), what it was made from
(``fingerprint``) and what else its step wants remembered (``encoder`` …), so that a file
found alone explains itself, and "is this done already?" costs one read of a footer.

Vectors are stored as ``fixed_size_binary`` of little-endian float16, which is written and
read four to eight times faster than a list of half floats, checksums included, and twenty
times faster than such a list by pyarrow's defaults (``benchmarks/tables.py``). Nobody
needs to know: :func:`embedding_matrix` and :func:`to_polars` give plain arrays.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import CurationError, StaleError, TableError, UnknownNameError
from curation.storage.base import Storage
from curation.table_seal import check_pages, read_metadata, sealed
from curation.texts import load_json

if TYPE_CHECKING:
    import polars as pl

METADATA_KEY = b"curation"
EMBEDDING = "image_embedding"
TEXT_EMBEDDING = "text_embedding"
_VECTORS = (EMBEDDING, TEXT_EMBEDDING)


@dataclass(frozen=True)
class TableKind:
    """What one kind of table must hold."""

    name: str
    version: int
    """Raised when the meaning of a column changes, which makes old files unreadable."""
    columns: tuple[pa.Field, ...]
    """Columns that are always there, in this order, before any others."""
    open_type: pa.DataType | None = None
    """Type that further columns must have; None if there may be none."""
    open_columns: bool = False
    """Further columns may be of any type."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


CATALOG = TableKind(
    "catalog",
    1,
    (
        pa.field("sample", pa.int32()),
        pa.field("key", pa.string()),
        pa.field("extension", pa.string()),
        _required("name", pa.string()),
        _required("header_start", pa.int64()),
        _required("data_start", pa.int64()),
        _required("size", pa.int64()),
        _required("end", pa.int64()),
        pa.field("loss", pa.string()),
    ),
)
"""One row per component of the shard, sample after sample, then one per loss.

``sample`` counts samples from 0 in the order of their first members; ``key`` is theirs
and ``extension`` all after the first dot of the base name. Bytes ``[header_start, end)``
are the member with its headers (long names and pax records too) and its padding; its data
are the ``size`` bytes from ``data_start``. A loss is a member, or a range of damaged
bytes, that belongs to no sample: ``loss`` says why, ``sample`` is null.
"""

EMBEDDINGS = TableKind(
    "embeddings",
    2,
    (
        _required("key", pa.string()),
        pa.field("error", pa.string()),
        pa.field("image_extension", pa.string()),
        pa.field("image_start", pa.int64()),
        pa.field("image_bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("sharpness", pa.float32()),
        pa.field("brightness", pa.float32()),
        pa.field("entropy", pa.float32()),
        pa.field("perceptual_hash", pa.binary(32)),
        pa.field("pixel_sha256", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("metadata", pa.string()),
    ),
    open_columns=True,  # the vectors, whose type has the dimension in it
)
"""One row per sample of the shard, in the order of the index.

``error`` says why there is no vector, and is null where there is one. ``image_start`` and
``image_bytes`` are the byte range of the image component in the shard. ``sha256`` is of
those bytes, in hex. ``width`` and ``height`` are pixels as encoded, before any EXIF
rotation. ``sharpness``, ``brightness``, ``entropy`` and the hashes are those of
``curation/image_facts.py``; ``pixel_sha256`` is null unless the recipe asked for it.
``metadata`` is the text of the ``.json`` component.
``image_embedding`` (float16, unit length) is null where the image could not be decoded.
With ``images.on_corruption: keep`` there is also ``corruption``: why Pillow refuses an
image that has a vector all the same.
"""

CAPTIONS = TableKind(
    "caption_embeddings",
    1,
    (_required("key", pa.string()),),
    open_columns=True,  # the vectors, whose type has the dimension in it
)
"""One row per row of the embeddings table, in its order: ``text_embedding`` (float16, unit
length) of the caption, null where there is none."""

SCORES = TableKind("scores", 1, (_required("key", pa.string()),), open_type=pa.float32())
"""One row per row of the embeddings table, one column per classifier; null, no vector."""

DUPLICATES = TableKind(
    "duplicates",
    1,
    (
        _required("key", pa.string()),
        _required("survivor_shard", pa.string()),
        _required("survivor_key", pa.string()),
        _required("kind", pa.string()),
        _required("similarity", pa.float32()),
    ),
)
"""One row per removed sample of the shard, with the kept sample that stands for it.

``kind`` is ``exact``, ``perceptual`` or ``semantic``; ``similarity`` is 1 for an exact
copy, the share of equal bits for a perceptual one, the cosine for a semantic one.
"""

SELECTION = TableKind(
    "selection",
    1,
    (
        _required("key", pa.string()),
        _required("kept", pa.bool_()),
        _required("reasons", pa.list_(pa.string())),
    ),
)
"""One row per sample of the shard; ``reasons`` holds every filter that it failed."""

FILTERED = TableKind("filtered", 1, (_required("key", pa.string()),), open_columns=True)
"""One row per kept sample, in the order of the filtered shard."""

RELEASE_PLAN = TableKind(
    "release_plan",
    1,
    (
        _required("key", pa.string()),
        _required("position", pa.int64()),
        _required("source_shard", pa.string()),
        _required("source_key", pa.string()),
        _required("row", pa.int64()),
    ),
)
"""One row per sample of a release that is to be, a group of rows per tar.

``key`` is the one that it is to have, ``position`` its place in the tar; ``row`` is that
of the filtered shard of ``source_shard``, where its key is ``source_key``.
"""

TAKEN_DOWN = TableKind(
    "taken_down",
    1,
    (
        _required("source_shard", pa.string()),
        _required("source_key", pa.string()),
        pa.field("sha256", pa.string()),
        _required("release", pa.string()),
        _required("release_key", pa.string()),
    ),
)
"""One row per sample that no release may hold again.

``source_shard`` and ``source_key`` are its place in the raw shards, ``sha256`` is of its
image; ``release`` is the one that it was found in, under ``release_key``.
"""

CENTROIDS = TableKind("centroids", 1, (_required("bin", pa.int32()),), open_columns=True)
"""One row per cell of the space of vectors: ``centroid`` (float32, unit length, little-
endian) and the ``bin`` of cells that it is compared in (``curation/dedup/centroids.py``).
"""

CELL_ROWS = TableKind(
    "cell_rows",
    1,
    (
        _required("id", pa.uint64()),
        _required("rank", pa.float64()),
    ),
    open_columns=True,  # cells and the vector, whose types have lengths in them
)
"""One row per vector that has a cell in a bin (``curation/dedup/state.py``).

``id`` is a shard's ordinal and a row of it (``curation/dedup/rows.py``). ``cells`` are
little-endian int32: the home cell and those of the halo, -1 where they are in another bin.
``rank`` says which vectors are compared first, the highest.
"""

PAIRS = TableKind(
    "pairs",
    1,
    (
        _required("one", pa.uint64()),
        pa.field("other", pa.uint64()),
        pa.field("similarity", pa.float32()),
    ),
)
"""Pairs of vectors that are similar, by id.

A row whose ``other`` is null says that not all pairs of this one are listed.
"""

BATCH = TableKind(
    "batch",
    1,
    (
        _required("ordinal", pa.int64()),
        _required("shard", pa.string()),
        _required("fingerprint", pa.string()),
    ),
)
"""The shards that came together, with the fingerprint of the vectors of each."""

PART = TableKind(
    "part",
    1,
    (
        _required("id", pa.uint64()),
        _required("centroid_similarity", pa.float32()),
        _required("random", pa.uint64()),
    ),
)
"""The vectors of some shards that can be compared, with what is computed of each.

``centroid_similarity`` is the cosine to the centroid of the home cell; ``random`` is drawn
from the vector. Both can be preferred by.
"""

IMPORTED_IMAGES = TableKind(
    "imported_images",
    1,
    (
        _required("path", pa.string()),
        pa.field("shard", pa.string()),
        pa.field("key", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("caption_path", pa.string()),
        pa.field("metadata_path", pa.string()),
        pa.field("problem", pa.string()),
    ),
)
"""One row per file, or per row of a list, that was to be imported, in the order of its
samples. Where ``problem`` says why it was not, ``shard`` and ``key`` are null.
``caption_path`` and ``metadata_path`` are the files that became the sample's ``.txt`` and
``.json``. Bytes of names that are no UTF-8 are written as ``\\xff``."""

IMPORTED_URLS = TableKind(
    "imported_urls",
    1,
    (
        _required("key", pa.string()),
        _required("url", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("error", pa.string()),
        pa.field("extension", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
    ),
)
"""One row per URL of the shard, in the order of the list. ``error`` says why there is no
image, and is null where there is one: then ``extension``, ``bytes`` and ``sha256`` (in
hex) are of that. ``metadata`` holds the list's other columns as JSON."""

PLANTED = TableKind(
    "planted",
    1,
    (
        _required("shard", pa.string()),
        _required("key", pa.string()),
        _required("kind", pa.string()),
        _required("expected", pa.string()),
        _required("decided_by", pa.string()),
        _required("edit", pa.string()),
        pa.field("twin_shard", pa.string()),
        pa.field("twin_key", pa.string()),
        pa.field("sharpness_label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("photograph", pa.string()),
        pa.field("region", pa.list_(pa.int32(), 4)),
    ),
)
"""One row per sample of the demo dataset, and per member that belongs to no sample.

``kind``, ``expected`` and ``decided_by`` are those of ``curation/ingest/demo_plan.py``;
``edit`` says in words what was done to the picture. ``twin_shard`` and ``twin_key`` name
the original of a copy. ``sharpness_label`` (``sharp``, ``blurred``) and ``split``
(``train``, ``test``) are set for the samples that a probe of sharpness is trained and
tested on. ``region`` is left, top, right, bottom in pixels of the ``photograph``.
"""


def embedding_type(dim: int) -> pa.DataType:
    """Give the Arrow type of a vector of ``dim`` numbers."""
    return pa.binary(2 * dim)


def embedding_column(vectors: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Make a column of vectors.

    Args:
        vectors: ``(N, dim)`` float; rounded to float16.
        valid: ``(N,)`` bool; rows that are False become null.
    """
    rows = np.ascontiguousarray(vectors, dtype="<f2")
    mask = pa.array(valid, pa.bool_()).buffers()[1]
    return pa.FixedSizeBinaryArray.from_buffers(
        embedding_type(rows.shape[1]), len(rows), [mask, pa.py_buffer(rows)]
    )


def embedding_matrix(
    column: pa.ChunkedArray | pa.Array,
) -> tuple[np.ndarray, np.ndarray]:
    """Read a column of vectors.

    Returns:
        ``(N, dim)`` float16, zeros where the vector is null, and ``(N,)`` bool, False
        there. The matrix is a view of Arrow's memory if no row is null.

    Raises:
        TableError: The column holds something else.
    """
    if not pa.types.is_fixed_size_binary(column.type):
        raise TableError(f"vectors are stored as fixed_size_binary; found {column.type}")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    dim = column.type.byte_width // 2
    data = column.buffers()[1]
    rows = np.frombuffer(data, dtype="<f2").reshape(-1, dim)
    rows = rows[column.offset : column.offset + len(column)]
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if not valid.all():
        rows = np.where(valid[:, None], rows, np.float16(0))
    return rows, valid


def to_polars(table: pa.Table) -> "pl.DataFrame":
    """Give the table to Polars, vectors as ``Array[f32, dim]``."""
    import polars as pl

    if EMBEDDING not in table.column_names:
        return pl.DataFrame(table)
    vectors, valid = embedding_matrix(table[EMBEDDING])
    column = pl.Series(EMBEDDING, vectors.astype(np.float32))
    frame = pl.DataFrame(table.drop_columns([EMBEDDING]))
    return frame.with_columns(pl.when(pl.Series(valid)).then(column).alias(EMBEDDING))


def write_table(
    storage: Storage,
    path: str,
    kind: TableKind,
    table: pa.Table,
    *,
    fingerprint: str,
    row_groups: Sequence[int] | None = None,
    **about: Any,
) -> None:
    """Write a table, whole or not at all. The same table gives the same bytes.

    Args:
        storage: Where to.
        path: Under which name.
        kind: What the table must be.
        table: The rows; columns may be in any order. What it says of itself already
            (:func:`with_about`) is remembered too.
        fingerprint: What it was made from.
        row_groups: How many rows each group has that can be read on its own; by default
            Arrow decides.
        about: JSON values to remember with it.

    Raises:
        TableError: A column is missing, unexpected, of another type, or has nulls where
            there may be none.
    """
    known = {"table": kind.name, "version": kind.version, "fingerprint": fingerprint}
    text = json.dumps(table_about(table) | about | known, sort_keys=True)
    table = checked_table(kind, table, path).replace_schema_metadata(
        {METADATA_KEY: text.encode()}
    )
    table = table.combine_chunks()  # chunks end pages, and so would change the bytes
    sink = pa.BufferOutputStream()  # twice as fast as io.BytesIO
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression={n: "NONE" if n in _VECTORS else "ZSTD" for n in table.column_names},
        use_dictionary=[n for n in table.column_names if n not in _VECTORS],
        write_page_checksum=True,
    ) as writer:
        start = 0
        for rows in [len(table)] if row_groups is None else row_groups:
            writer.write_table(table.slice(start, rows))
            start += rows
    storage.write(path, sealed(memoryview(sink.getvalue())))


def read_table(
    storage: Storage,
    path: str,
    kind: TableKind,
    columns: Sequence[str] | None = None,
    *,
    row_group: int | None = None,
    made_of: str | None = None,
) -> pa.Table:
    """Read a table, or some of its columns, or one of the groups it was written in.

    Args:
        storage: Where it is.
        path: Of the file.
        kind: What the table must be.
        columns: By default all.
        row_group: Which of the groups; by default all of them.
        made_of: The fingerprint that the table must have; None if any will do.

    Raises:
        StaleError: It was made of something else than was expected.
        NotFoundError: There is no such file.
        TableError: It is no Parquet file, damaged, or another kind of table.
        UnknownNameError: It has no column of that name.
    """
    with storage.open_reader(path) as file, _translated(storage, path):
        # Arrow reads a local file in half the time when it opens that itself.
        parquet = _opened(storage.local_path(path) or file, read_metadata(file))
        about = _read_about(parquet.metadata.metadata)
        _check_kind(kind, about, f"{storage.url}/{path}")
        if made_of is not None and about.get("fingerprint") != made_of:
            raise made_of_something_else(storage, path)
        _check_schema(kind, parquet.schema_arrow, f"{storage.url}/{path}")
        names = parquet.schema_arrow.names
        wanted = names if columns is None else list(columns)
        for name in wanted:
            if name not in names:
                raise UnknownNameError.among(f"column of {path}", name, names)
        if row_group is not None:
            return parquet.read_row_group(row_group, columns=wanted)
        return parquet.read(columns=wanted)


def made_of_something_else(storage: Storage, path: str) -> StaleError:
    """Say that a file is there, and not the one that was expected."""
    return StaleError(
        f"{storage.url}/{path}: it was made of something else than this recipe says, or "
        "than is on record, perhaps by another recipe that writes to this output, or after "
        "an edit; run `curate run`, and if that finds nothing to do, delete the file first"
    )


def read_about(storage: Storage, path: str) -> dict[str, Any]:
    """Read what a table says of itself, from its footer alone.

    Returns:
        ``table``, ``version``, ``fingerprint`` and what its step remembered, with
        ``num_rows`` added; empty if the file isn't one of this package's.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is no Parquet file.
    """
    with storage.open_reader(path) as file, _translated(storage, path):
        found = read_metadata(file)
        about = _read_about(found.metadata)
        return about | {"num_rows": found.num_rows} if about else {}


def read_columns(storage: Storage, path: str) -> list[str]:
    """Name the columns of a table, from its footer alone.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is no Parquet file.
    """
    with storage.open_reader(path) as file, _translated(storage, path):
        names: list[str] = read_metadata(file).schema.to_arrow_schema().names
        return names


def scan_table(storage: Storage, path: str) -> None:
    """Read all of a Parquet file, of whatever kind, and compare its checksums.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is no Parquet file, or damaged.
    """
    with storage.open_reader(path) as file, _translated(storage, path):
        check_pages(file)
        parquet = _opened(file, read_metadata(file))
        for group in range(parquet.num_row_groups):
            parquet.read_row_group(group)


@dataclass(frozen=True)
class Footer:
    """What the footer of a table's file says of it and its rows."""

    about: Mapping[str, Any]
    """As :func:`read_about`, without ``num_rows``."""
    num_rows: int
    filled: Mapping[str, int]
    """For the columns that were asked for, how many rows have a value."""


def read_footer(
    storage: Storage, path: str, kind: TableKind, columns: Sequence[str]
) -> Footer:
    """Count the rows of a table, and those with a value, from the footer alone.

    Args:
        storage: Where it is.
        path: Its path there.
        kind: What it must be.
        columns: Of its kind, and no lists, those of which values are counted.

    Raises:
        NotFoundError: There is no such file.
        TableError: It is no Parquet file, or another kind of table.
    """
    with storage.open_reader(path) as file, _translated(storage, path):
        found = read_metadata(file)
        about = _read_about(found.metadata)
        _check_kind(kind, about, f"{storage.url}/{path}")
        counts = {name: _num_values(found, name) for name in columns}
    if None in counts.values():  # another program wrote the file
        table = read_table(storage, path, kind, columns)
        counts = {name: len(table) - table[name].null_count for name in columns}
    return Footer(about, found.num_rows, {name: n or 0 for name, n in counts.items()})


def _num_values(found: pq.FileMetaData, name: str) -> int | None:
    column = found.schema.names.index(name)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    counts = [group.column(column).statistics for group in groups]
    if any(count is None or not count.has_null_count for count in counts):
        return None
    return sum(int(count.num_values) for count in counts)  # nulls are not among them


def table_about(table: pa.Table) -> dict[str, Any]:
    """Give what a table in memory says of itself: read from a file, or just made.

    Returns:
        As :func:`read_about`, without ``num_rows``; empty if it says nothing.
    """
    try:
        return _read_about(table.schema.metadata)
    except ValueError:  # what another program calls so
        return {}


def with_about(table: pa.Table, **about: Any) -> pa.Table:
    """Make the table say JSON values of itself, to be passed on to :func:`write_table`."""
    text = json.dumps(table_about(table) | about, sort_keys=True)
    return table.replace_schema_metadata({METADATA_KEY: text.encode()})


def checked_table(kind: TableKind, table: pa.Table, where: str) -> pa.Table:
    """Return the table with its columns in the kind's order.

    Raises:
        TableError: As :func:`write_table`.
    """
    for field in kind.columns:
        if field.name not in table.column_names:
            raise TableError(f"{where}: a {kind.name} table needs a column {field.name}")
        _check_column(kind, field, table[field.name], where)
    fixed = [field.name for field in kind.columns]
    extra = [name for name in table.column_names if name not in fixed]
    for name in extra:
        _check_extra(kind, name, table[name].type, where)
    extras = [pa.field(name, table[name].type) for name in extra]
    return table.select(fixed + extra).cast(pa.schema([*kind.columns, *extras]))


def _check_column(
    kind: TableKind, field: pa.Field, column: pa.ChunkedArray, where: str
) -> None:
    if column.type != field.type:
        raise TableError(
            f"{where}: column {field.name} of a {kind.name} table is {field.type}; "
            f"found {column.type}"
        )
    if column.null_count and not field.nullable:
        raise TableError(
            f"{where}: column {field.name} of a {kind.name} table has no nulls; found "
            f"{column.null_count} in {len(column)} rows"
        )


def _check_extra(kind: TableKind, name: str, found: pa.DataType, where: str) -> None:
    if kind.open_columns or found == kind.open_type:
        return
    allowed = f"only {kind.open_type} columns" if kind.open_type else "no columns"
    raise TableError(
        f"{where}: a {kind.name} table has {allowed} beside its own; found {name}, "
        f"which is {found}"
    )


def _check_kind(kind: TableKind, about: dict[str, Any], where: str) -> None:
    found = (about.get("table"), about.get("version"))
    if found != (kind.name, kind.version):
        raise TableError(
            f"{where}: expected a {kind.name} table of version {kind.version}; found "
            + (f"{found[0]} of version {found[1]}" if about else "another program's file")
            + "; delete it, and the next run makes it again"
        )


def _check_schema(kind: TableKind, found: pa.Schema, where: str) -> None:
    for field in kind.columns:
        if field.name not in found.names or found.field(field.name).type != field.type:
            raise TableError(
                f"{where}: expected a column {field.name} that is {field.type}; found "
                f"{', '.join(found.names)}; delete the file, and the next run makes it "
                "again"
            )


def _opened(source: BinaryIO | Path, metadata: pq.FileMetaData) -> pq.ParquetFile:
    return pq.ParquetFile(source, metadata=metadata, page_checksum_verification=True)


def _read_about(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    about = load_json((metadata or {}).get(METADATA_KEY, b"{}"))
    return about if isinstance(about, dict) else {}


@contextmanager
def _translated(storage: Storage, path: str) -> Iterator[None]:
    try:
        yield
    except CurationError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of reading: Arrow's own about damaged bytes have no number
        raise TableError(
            f"{storage.url}/{path}: not a table that can be read ({error}); delete it, "
            "and the next run makes it again"
        ) from error
