"""NumPy's ``.npy`` files of vectors: one array of floats, a row per vector.

Belongs here: the header, reading rows by range, writing rows as they come. Which file
holds whose vectors is known to ``exports/`` and ``training/``. Pickled arrays are never
read, and a file that is shorter or longer than its header says is an error, not a guess.

Source: ``numpy.lib.format``, versions 1.0 and 2.0.
"""

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from curation.errors import TableError
from curation.storage.base import Storage, StoredFile, check_unchanged

HEADER_BYTES = 4096
"""Read to parse a header; NumPy writes 128 for an array of two dimensions."""

LOCAL_GAP = 16 << 10  # bytes read along rather than with a read of their own
REMOTE_GAP = 1 << 20
SPAN_BYTES = 4 << 20  # read at once

_PARSERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}
# NumPy parses headers with ast, and of threads that use ast at once Python 3.11 gives some
# "SystemError: AST constructor recursion depth mismatch": they share one counter.
_ONE_PARSES = threading.Lock()


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What a file of vectors says of itself."""

    num_rows: int
    dim: int
    """Numbers in a vector."""
    dtype: np.dtype
    """Of 2, 4 or 8 bytes, in either byte order."""
    data_start: int
    """First byte of the first row."""
    file: StoredFile | None = None
    """What it was read from; another file of its name is not read on."""

    @property
    def row_bytes(self) -> int:
        """Length of one row."""
        return self.dim * self.dtype.itemsize

    def byte_range(self, start: int, stop: int) -> tuple[int, int]:
        """Give the bytes ``[first, last)`` of rows ``[start, stop)``."""
        return (
            self.data_start + start * self.row_bytes,
            self.data_start + stop * self.row_bytes,
        )


def parse_npy(data: bytes | memoryview, where: str) -> np.ndarray:
    """Read an array of floats from the bytes of a whole file.

    Args:
        data: A file's content.
        where: What to call it in errors.

    Returns:
        An array of any shape in the file's dtype; a read-only view of ``data``.

    Raises:
        TableError: It is no ``.npy`` of floats in C order, or its length does not fit.
    """
    shape, dtype, start = _parse_header(bytes(data[:HEADER_BYTES]), where)
    _check_size(where, len(data), start + prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def read_npy_header(
    storage: Storage, path: str, file: StoredFile | None = None
) -> NpyHeader:
    """Read and check the header of a file of vectors.

    Args:
        storage: Where it is.
        path: Which file.
        file: As it was listed, if it was; looked up otherwise.

    Raises:
        NotFoundError: There is no such file.
        StaleError: It was replaced since it was listed.
        TableError: It is no ``.npy``, not ``(rows, dim)`` floats in C order, or shorter or
            longer than its header says.
    """
    where, file = f"{storage.url}/{path}", file or storage.stat(path)
    head = storage.read_version(file, 0, HEADER_BYTES)
    shape, dtype, start = _parse_header(head, where)
    if len(shape) != 2:
        raise TableError(f"{where}: expected an array (rows, dim); found shape {shape}")
    header = NpyHeader(shape[0], shape[1], dtype, start, file)
    _check_size(where, file.size, header.byte_range(0, header.num_rows)[1])
    return header


def read_npy_rows(
    storage: Storage, path: str, header: NpyHeader, start: int, stop: int
) -> np.ndarray:
    """Read rows ``[start, stop)`` of a file of vectors.

    Returns:
        ``(stop - start, dim)`` in the file's dtype, read-only.

    Raises:
        StaleError: The file was replaced since its header was read.
        TableError: It ends before ``stop``.
    """
    first, last = header.byte_range(start, stop)
    if header.file is None:
        data = storage.read(path, first, last)
    else:
        data = storage.read_version(header.file, first, last)
    _check_size(f"{storage.url}/{path}", first + len(data), last)
    return np.frombuffer(data, header.dtype).reshape(stop - start, header.dim)


def read_npy_scattered(
    storage: Storage, path: str, header: NpyHeader, rows: np.ndarray
) -> np.ndarray:
    """Read rows from all over a file, in few reads.

    Args:
        storage: Where the file is.
        path: Which file.
        header: Of the file.
        rows: ``(n,)`` row numbers, ascending.

    Returns:
        ``(n, dim)`` in the file's dtype.

    Raises:
        StaleError, TableError: As :func:`read_npy_rows`.
    """
    found = np.empty((len(rows), header.dim), header.dtype)
    local = storage.local_path(path) is not None
    gap = max(1, (LOCAL_GAP if local else REMOTE_GAP) // max(header.row_bytes, 1))
    most = max(1, SPAN_BYTES // max(header.row_bytes, 1))
    with storage.open_reader(path) if local else nullcontext() as file:
        for begin, end in _runs(rows, gap, most):
            first, last = int(rows[begin]), int(rows[end - 1]) + 1
            if file is None:
                span = read_npy_rows(storage, path, header, first, last)
            else:
                start, stop = header.byte_range(first, last)
                data = os.pread(file.fileno(), stop - start, start)
                _check_size(f"{storage.url}/{path}", start + len(data), stop)
                span = np.frombuffer(data, header.dtype).reshape(-1, header.dim)
            np.take(
                span, rows[begin:end] - first, axis=0, out=found[begin:end], mode="clip"
            )
    if local and header.file is not None:
        check_unchanged(storage, header.file)
    return found


def _runs(rows: np.ndarray, gap: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut ascending rows where more than ``gap`` are left out, or ``most`` are spanned."""
    cuts = [0, *(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]
    for begin, end in pairwise(cuts):
        while begin < end:
            stop = int(np.searchsorted(rows[begin:end], rows[begin] + most)) + begin
            yield begin, stop
            begin = stop


def map_npy(storage: Storage, path: str, header: NpyHeader) -> np.ndarray:
    """Give all rows of a file of vectors: mapped where it is local, else read.

    Returns:
        ``(num_rows, dim)`` in the file's dtype, read-only.

    Raises:
        StaleError: The file was replaced since its header was read. What is mapped stays
            what it is if the file is replaced later, but not if it is written over.
    """
    place = storage.local_path(path)
    if place is None or not header.num_rows * header.dim:
        return read_npy_rows(storage, path, header, 0, header.num_rows)
    shape = (header.num_rows, header.dim)
    mapped = np.memmap(place, header.dtype, "r", header.data_start, shape)
    if header.file is not None:
        check_unchanged(storage, header.file)
    return mapped


def usable_rows(rows: np.ndarray) -> np.ndarray:
    """Tell which rows are vectors: ``(n,)`` bool.

    Rows of zeros stand for samples without one. A NaN or an infinite value, such as a
    model in half precision gives, would make a training loss NaN for good.

    Args:
        rows: ``(n, dim)`` floats.
    """
    usable: np.ndarray = rows.any(axis=1) & np.isfinite(rows).all(axis=1)
    return usable


class NpyWriter:
    """Takes the rows of one file, in order."""

    def __init__(self, file: BinaryIO, path: str, header: NpyHeader) -> None:
        self._file = file
        self._path = path
        self._header = header
        self.num_written = 0
        """Rows so far."""

    def write(self, rows: np.ndarray) -> None:
        """Append rows.

        Args:
            rows: ``(n, dim)``, of the file's dtype.

        Raises:
            TableError: They are of another shape or dtype.
        """
        header = self._header
        if rows.ndim != 2 or rows.shape[1] != header.dim or rows.dtype != header.dtype:
            raise TableError(
                f"{self._path}: rows of this file are (n, {header.dim}) {header.dtype}; "
                f"found {rows.shape} {rows.dtype}"
            )
        self._file.write(np.ascontiguousarray(rows).data)
        self.num_written += len(rows)


@contextmanager
def npy_writer(
    storage: Storage, path: str, num_rows: int, dim: int, dtype: np.dtype
) -> Iterator[NpyWriter]:
    """Open a file of vectors that appears when the block ends without an error.

    Raises:
        TableError: Another number of rows was written than promised; no file appears.
    """
    described = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (num_rows, dim),
    }
    with storage.open_writer(path) as file:
        npy_format.write_array_header_1_0(file, described)
        writer = NpyWriter(file, path, NpyHeader(num_rows, dim, dtype, 0))
        yield writer
        if writer.num_written != num_rows:
            raise TableError(
                f"{path}: {num_rows} rows were to be written, {writer.num_written} were"
            )


def write_npy(storage: Storage, path: str, rows: np.ndarray) -> None:
    """Write ``(N, dim)`` floats as one file, whole or not at all."""
    num_rows, dim = rows.shape
    with npy_writer(storage, path, num_rows, dim, rows.dtype) as writer:
        writer.write(rows)


def _parse_header(head: bytes, where: str) -> tuple[tuple[int, ...], np.dtype, int]:
    """Give shape, dtype and where the data begin."""
    file = io.BytesIO(head)
    try:
        version = npy_format.read_magic(file)
        if version not in _PARSERS:
            raise TableError(f"{where}: .npy of version {version}; expected 1.0 or 2.0")
        with _ONE_PARSES:
            shape, fortran_order, dtype = _PARSERS[version](file)
    except TableError:
        raise
    except Exception as error:  # strangers' bytes make NumPy and tokenize raise anything
        raise TableError(f"{where}: not an .npy file that can be read ({error})") from error
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise TableError(
            f"{where}: expected floats of 16, 32 or 64 bits; found dtype {dtype}"
        )
    if fortran_order and sum(side > 1 for side in shape) > 1:
        raise TableError(
            f"{where}: expected rows one after another; found Fortran order: save "
            "np.ascontiguousarray(array) instead"
        )
    is_whole = all(type(side) is int and side >= 0 for side in shape)  # True is none
    if not is_whole or prod(max(s, 1) for s in shape) * dtype.itemsize > sys.maxsize:
        raise TableError(f"{where}: a shape can't be {shape}")
    return shape, dtype, file.tell()


def _check_size(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise TableError(
            f"{where}: its header promises {expected} bytes, there are {found}; the file "
            "was cut short or overwritten, make it again"
        )
