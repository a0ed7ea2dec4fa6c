"""Vectors of filtered shards as files that other programs read.

Two layouts: one ``img_emb_<shard>.npy`` per shard, for decoders' loaders; and
clip-retrieval's folders, for priors, retrieval indexes and whatever else reads those.
NeMo Curator's, which has the tars too, is in ``nemo.py``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import InputError
from curation.npy import write_npy
from curation.storage import Storage
from curation.tables import (
    EMBEDDING,
    FILTERED,
    TEXT_EMBEDDING,
    embedding_matrix,
    read_table,
)

FOLDERS = {EMBEDDING: "img_emb", TEXT_EMBEDDING: "text_emb"}
"""Column to clip-retrieval's folder and prefix."""


OnShard = Callable[[str, int], object]
"""Is told each shard that is done, and how many samples it has."""


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    paths: tuple[str, ...]
    num_rows: int
    """Of all shards."""
    num_missing: int
    """Of them without a vector."""


def export_vectors(
    source: Storage, output: Storage, on_shard: OnShard | None = None
) -> ExportReport:
    """Write ``img_emb_<shard>.npy`` for every filtered shard: row i is of its sample i.

    A file lies in the same sub-folder as its shard, so that shards of several folders may
    have the same numbers; loaders find it there.

    Args:
        source: Folder of filtered shards.
        output: Where to; may be the same folder, whose URL alone then names a training
            set for :func:`curation.training.create_image_embedding_dataloader`.
        on_shard: Told as each shard is done.

    Returns:
        What was written; float16 ``(samples, dim)`` each, zeros where there is no vector.

    Raises:
        InputError: There are no tables of filtered shards, or no vectors in them, or it
            is not clear from their names which file would be whose.
        TableError: A table is damaged.
    """
    paths, num_rows, num_missing = [], 0, 0
    tables = filtered_tables(source)
    names = _vector_files(source, tables)
    for path, name in zip(tables, names, strict=True):
        table = read_table(source, path, FILTERED)
        vectors, valid = read_vectors(source, path, table, EMBEDDING)
        paths.append(name)
        write_npy(output, paths[-1], vectors)
        num_rows += len(valid)
        num_missing += int(np.count_nonzero(~valid))
        if on_shard:
            on_shard(path.removesuffix(".parquet"), len(valid))
    return ExportReport(tuple(paths), num_rows, num_missing)


def export_clip_retrieval(
    source: Storage, output: Storage, on_shard: OnShard | None = None
) -> ExportReport:
    """Write what clip-retrieval's inference would, a part for every filtered shard.

    Files are ``img_emb/img_emb_P.npy`` and ``metadata/metadata_P.parquet``, and
    ``text_emb/text_emb_P.npy`` where captions have vectors. Parts are numbered in the
    order of the shards. Samples without one of the vectors are left out, as there.

    Args:
        source: Folder of filtered shards.
        output: An empty folder, or one to be overwritten.
        on_shard: Told as each shard is done.

    Returns:
        What was written: float16 ``(rows, dim)``, and tables with ``image_path`` (the
        key), ``caption``, and all columns that are no vectors.

    Raises:
        InputError: As :func:`export_vectors`.
        TableError: A table is damaged.

    Source: clip-retrieval 2.45, ``clip_inference/writer.py``.
    """
    tables = list(filtered_tables(source))
    paths: list[str] = []
    num_rows = num_missing = 0
    for part, path in enumerate(tables):
        name = str(part).zfill(len(str(len(tables) - 1)))
        table = read_table(source, path, FILTERED)
        columns = [c for c in FOLDERS if c in table.column_names or c == EMBEDDING]
        found = {c: read_vectors(source, path, table, c) for c in columns}
        complete = np.logical_and.reduce([valid for _, valid in found.values()])
        for column, (vectors, _) in found.items():
            paths.append(f"{FOLDERS[column]}/{FOLDERS[column]}_{name}.npy")
            write_npy(output, paths[-1], vectors[complete])
        paths.append(f"metadata/metadata_{name}.parquet")
        metadata = _metadata(table.filter(pa.array(complete)))
        with output.open_writer(paths[-1]) as file:
            pq.write_table(metadata, file)
        num_rows += len(complete)
        num_missing += int(np.count_nonzero(~complete))
        if on_shard:
            on_shard(path.removesuffix(".parquet"), len(complete))
    return ExportReport(tuple(paths), num_rows, num_missing)


def _metadata(table: pa.Table) -> pa.Table:
    """Give keys, captions and all other columns, by clip-retrieval's names."""
    others = [c for c in table.column_names if c not in (*FOLDERS, "key", "caption")]
    nothing = pa.nulls(len(table), pa.string())
    caption = table["caption"] if "caption" in table.column_names else nothing
    columns = {"image_path": table["key"], "caption": caption}
    return pa.table(columns | {name: table[name] for name in others})


def read_vectors(
    source: Storage, path: str, table: pa.Table, column: str
) -> tuple[np.ndarray, np.ndarray]:
    """Take a column of vectors out of a filtered shard's table.

    Returns:
        As :func:`curation.tables.embedding_matrix`.

    Raises:
        InputError: The table has no such column.
    """
    if column not in table.column_names:
        raise InputError(
            f"{source.url}/{path}: there is no column {column}; the recipe left vectors "
            "out (filtered: embeddings: true keeps them)"
        )
    return embedding_matrix(table[column])


def filtered_tables(source: Storage) -> dict[str, str]:
    """List the tables beside tars, by path: the digits at the end of each one's name.

    Raises:
        InputError: There are none, or a name has no digits at its end.
    """
    tars = {file.path for file in source.list_files(suffix=".tar")}
    found: dict[str, str] = {}
    for file in source.list_files(suffix=".parquet"):
        stem = file.path.removesuffix(".parquet")
        if f"{stem}.tar" not in tars:
            continue
        digits = re.search(r"\d+$", stem)
        if digits is None:
            raise InputError(f"{source.url}/{stem}.tar: its name must end with a number")
        found[file.path] = digits[0]
    if not found:
        raise InputError(f"{source.url}: there are no filtered shards with their tables")
    return found


def _vector_files(source: Storage, tables: Mapping[str, str]) -> list[str]:
    """Name the file of each table's vectors."""
    names: dict[str, str] = {}
    for path, number in tables.items():
        name = str(PurePosixPath(path).parent / f"img_emb_{number}.npy")
        other = names.setdefault(name, path)
        if other is not path:
            raise InputError(
                f"{source.url}: {other} and {path} end with the same number, so their "
                "vectors would have the same name; make a release, which numbers anew"
            )
    return list(names)
