"""Lists of samples that people have: CSV, Parquet, or one URL a line.

Belongs here: reading them, and what a row becomes in a sample. What the rows name belongs
in ``images.py`` and ``urls.py``.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from curation.errors import InputError
from curation.public_urls import text_without_secrets
from curation.storage import Storage

CAPTION = "caption"
SUFFIXES = (".csv", ".parquet", ".txt")


def read_list(storage: Storage, path: str, subject: str) -> pa.Table:
    """Read a list, in its order.

    A CSV has a line of names first, and may have line breaks inside quotes. A ``.txt`` has
    one ``subject`` a line, and nothing else; empty lines count for nothing.

    Args:
        storage: Where it is.
        path: Ends with one of ``SUFFIXES``.
        subject: The column that there must be: ``path`` or ``url``.

    Returns:
        ``subject`` and ``caption`` as strings, nulls where there is none, then all other
        columns.

    Raises:
        NotFoundError: There is no such file.
        InputError: It can't be read, or lacks the column.
    """
    where, data = f"{storage.url}/{path}", storage.read(path)
    try:
        table = _parsed(data, PurePosixPath(path).suffix.lower(), subject)
        names = [] if table is None else table.column_names  # which need be no UTF-8
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = text_without_secrets(str(error))  # may quote a row
        raise InputError(f"{where}: a list that can't be read: {said}") from error
    if table is None:
        raise InputError(f"{where}: expected a list that ends with {', '.join(SUFFIXES)}")
    if names.count(subject) != 1 or names.count(CAPTION) > 1:
        raise InputError(
            f"{where}: expected one column {subject!r}; found "
            + text_without_secrets(", ".join(names))
        )
    others = [name for name in names if name not in (subject, CAPTION)]
    if twice := sorted({name for name in others if others.count(name) > 1}):
        raise InputError(
            f"{where}: several columns are named {text_without_secrets(repr(twice[0]))}; "
            "each becomes a member of a sample's .json: name them differently"
        )
    columns = {subject: _strings(table[subject], f"{where}: {subject}")}
    columns[CAPTION] = pa.chunked_array([pa.nulls(len(table), pa.string())])
    if CAPTION in names:
        columns[CAPTION] = _strings(table[CAPTION], f"{where}: {CAPTION}")
    return pa.table(columns | {name: table[name] for name in others})


def metadata_json(row: Mapping[str, Any]) -> str:
    """Write a row's values as a sample's ``.json``, in the order of the columns.

    What JSON does not know (dates, bytes …) is written as text; NaN and infinities, which
    many readers refuse, as null. URLs are written without passwords and tokens.
    """
    return json.dumps(_jsonable(row), ensure_ascii=False, allow_nan=False)


def _parsed(data: bytes, suffix: str, subject: str) -> pa.Table | None:
    if suffix == ".parquet":
        return pq.read_table(BytesIO(data))
    if suffix == ".txt":
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
        return pa.table({subject: pa.array([line for line in lines if line], pa.string())})
    if suffix != ".csv":
        return None
    texts = {subject: pa.string(), CAPTION: pa.string()}  # 007 is no number there
    return pyarrow.csv.read_csv(
        BytesIO(data),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=texts),
    )


def _strings(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise InputError(f"{where} has to be text; found {column.type}") from error


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_jsonable(str(name)): _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # NaN is not below it
    if value is None or isinstance(value, bool | int):
        return value
    return text_without_secrets(str(value))
