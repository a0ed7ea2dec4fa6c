"""Lists that name samples from outside: which were selected, approved, or are to go.

A list is a column of a Parquet or CSV file, or DataComp's ``.npy`` of uids: a structured
array ``u8,u8`` of the two halves of each 32-digit hexadecimal uid, sorted.

Source: mlfoundations/datacomp, baselines/apply_filter.py and resharder.py (the format of
uids).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import InputError

if TYPE_CHECKING:
    import polars as pl

UID = "uid"
UID_TYPE = np.dtype("u8,u8")
_UID_PATTERN = re.compile("[0-9a-f]{32}")


def read_list(file: str, column: str) -> "pl.Series":
    """Read the values of a list, as text.

    Args:
        file: An absolute path, ``.parquet``, ``.csv`` (with a header) or ``.npy``.
        column: Which one; that of a ``.npy`` is ``uid``.

    Raises:
        InputError: There is no such file or column, or it is no list.
    """
    path = Path(file)
    if not path.is_absolute() or not path.is_file():
        raise InputError(
            f"{file}: there is no such file; name a list by its absolute path, since a "
            "recipe is run from many folders"
        )
    if path.suffix not in (".parquet", ".csv", ".npy"):
        raise InputError(f"{file}: a list is a .parquet, .csv or .npy file")
    stat = path.stat()
    return _read(path, column, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)  # every shard of a selection asks for it
def _read(path: Path, column: str, _size: int, _mtime_ns: int) -> "pl.Series":
    import polars as pl

    if path.suffix == ".npy":
        frame = pl.LazyFrame({UID: _uids(path)})
    else:
        frame = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path)
    try:
        names = frame.collect_schema().names()
        if column not in names:
            raise InputError(f"{path}: has no column {column!r}; it has {', '.join(names)}")
        values = frame.select(pl.col(column).cast(pl.String)).collect().to_series()
    except unreadable() as error:
        raise InputError(f"{path}: can't be read as a table: {error}") from error
    return values.drop_nulls().unique()


def unreadable() -> tuple[type[BaseException], ...]:
    """Give what polars raises of a file that is no table, or a damaged one."""
    import polars as pl

    # a decoder's own errors, and a panic, which is no Exception, are none of polars' family
    return pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError


def _uids(path: Path) -> list[str]:
    try:
        halves = np.load(path, allow_pickle=False)
    except Exception as error:  # strangers' bytes make NumPy raise anything
        raise InputError(f"{path}: not an array of NumPy's: {error}") from error
    if halves.dtype != UID_TYPE or halves.ndim != 1:
        raise InputError(
            f"{path}: expected DataComp's uids, (N,) of u8,u8; found shape {halves.shape} "
            f"of {halves.dtype}"
        )
    return [f"{high:016x}{low:016x}" for high, low in halves.tolist()]


def uid_array(uids: Iterable[str]) -> np.ndarray:
    """Give uids in DataComp's form.

    Args:
        uids: Each of 32 hexadecimal digits.

    Returns:
        ``(N,)`` of ``u8,u8``, sorted.

    Raises:
        InputError: One is no uid.
    """
    halves = []
    for uid in uids:
        if not _UID_PATTERN.fullmatch(uid):
            raise InputError(
                f"{uid!r} is no uid of DataComp's, which has 32 hexadecimal digits"
            )
        halves.append((int(uid[:16], 16), int(uid[16:], 16)))
    return np.sort(np.array(halves, UID_TYPE))
