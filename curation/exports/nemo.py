"""Filtered shards as NeMo Curator's image curation reads them.

One flat folder of ``NNNNN.tar``, ``NNNNN.idx`` and ``NNNNN.parquet``. The tables are plain
Parquet that any reader knows: ``image_embedding`` is a list of float32, where our own
tables hold raw float16.

Source: NeMo Curator 0.9, user guide, "Image-Text Pair Datasets"; its reader takes the files
of a folder sorted by name, and pairs tars with tables by that order.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import InputError
from curation.exports.vectors import (
    FOLDERS,
    ExportReport,
    OnShard,
    filtered_tables,
    read_vectors,
)
from curation.storage import ByteRange, Storage
from curation.tables import EMBEDDING, FILTERED, read_table

SHARD_DIGITS = 5


def export_nemo(
    source: Storage, output: Storage, on_shard: OnShard | None = None
) -> ExportReport:
    """Write every filtered shard's tar, index and table in NeMo Curator's layout.

    Tars are copied byte for byte, so keys are as they were: ``id_col`` is ``key``. All
    columns of the tables travel; a vector is null where the sample has none. A shard keeps
    its number; where two have the same, as of several inputs, all are numbered anew from 0,
    in the order of their paths. :class:`ExportReport` and ``on_shard`` follow that order.

    Args:
        source: Folder of filtered shards.
        output: Another folder, without tars in it.
        on_shard: Told as each shard is done.

    Raises:
        InputError: As :func:`curation.exports.filtered_tables`; or ``output`` has tars, or
            two shards of one folder have the same number.
        TableError: A table is damaged.
    """
    names = _names(source)
    if found := output.list_files(suffix=".tar"):
        raise InputError(
            f"{output.url}/{found[0].path} is there already; name an empty folder"
        )
    paths: list[str] = []
    num_rows = num_missing = 0
    for name, stem in names.items():
        table = read_table(source, f"{stem}.parquet", FILTERED)
        missing = _write_table(source, stem, table, output, f"{name}.parquet")
        for suffix in ("idx", "tar"):  # the tar last: where it is, the shard is whole
            if suffix == "tar" or source.exists(f"{stem}.{suffix}"):
                _copy(source, f"{stem}.{suffix}", output, f"{name}.{suffix}")
                paths.append(f"{name}.{suffix}")
        paths.append(f"{name}.parquet")
        num_rows += len(table)
        num_missing += missing
        if on_shard:
            on_shard(stem, len(table))
    return ExportReport(tuple(sorted(paths)), num_rows, num_missing)


def _names(source: Storage) -> dict[str, str]:
    """Map each shard's new name to its old one."""
    stems: dict[tuple[str, int], str] = {}
    for path, digits in filtered_tables(source).items():
        place, stem = (path.rpartition("/")[0], int(digits)), path.removesuffix(".parquet")
        if stems.setdefault(place, stem) != stem:
            raise InputError(
                f"{source.url}: {stems[place]} and {stem} would both be "
                f"{_name(int(digits))}; make a release, which numbers anew"
            )
    numbers = [number for _, number in stems]
    if len(set(numbers)) < len(numbers):
        numbers = list(range(len(numbers)))
    return dict(zip(map(_name, numbers), stems.values(), strict=True))


def _name(number: int) -> str:
    return str(number).zfill(SHARD_DIGITS)


def _write_table(
    source: Storage, stem: str, table: pa.Table, output: Storage, path: str
) -> int:
    """Write a table with vectors as lists; tell how many rows have none."""
    without = 0
    for column in FOLDERS:
        if column in table.column_names or column == EMBEDDING:
            rows, valid = read_vectors(source, f"{stem}.parquet", table, column)
            at = table.column_names.index(column)
            table = table.set_column(at, column, _lists(rows, valid))
            without += int(np.count_nonzero(~valid)) if column == EMBEDDING else 0
    with output.open_writer(path) as file:
        pq.write_table(table.replace_schema_metadata(), file)
    return without


def _lists(rows: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Give ``(N, dim)`` float16 as lists of float32, null where not valid."""
    values = pa.array(rows[valid].astype(np.float32).ravel())
    ends = np.append(0, np.cumsum(np.where(valid, rows.shape[1], 0)))
    offsets = pa.array(ends, pa.int32(), mask=np.append(~valid, False))
    return pa.ListArray.from_arrays(offsets, values)


def _copy(source: Storage, path: str, output: Storage, to: str) -> None:
    file = source.stat(path)
    parts = [ByteRange(source, path, 0, file.size, file)] if file.size else []
    output.write_parts(to, parts)
