"""A folder of numbered ``.npy`` parts, with or without captions, read as one long table.

This is the layout that clip-retrieval writes (``img_emb/img_emb_0.npy …``,
``metadata/metadata_0.parquet …``) and that priors are trained from. Rows are numbered
through all parts, in the order of the parts' numbers: 2 comes before 10 with or without
leading zeros. Parts of two folders belong together by number, never by place in a list,
and must have as many rows as each other.

embedding-reader, the library that the original uses, is not used here: it hangs for ever
when a loop is left early, takes the type of the first file for all of them, pairs parts
by place, loads whole metadata tables for one column, and is many times slower where
batches are small (``benchmarks/prior_loader.py``).
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import CurationError, InputError, TableError
from curation.npy import NpyHeader, map_npy, read_npy_header, read_npy_rows
from curation.storage import Storage, open_storage
from curation.storage.base import StoredFile

GROUPS_HELD = 2  # row groups of a text column; a batch lies in one or across two
OPENING_THREADS = 16  # headers and footers read at once; each is one small request

T = TypeVar("T")


@dataclass(frozen=True)
class TextPart:
    """One Parquet file with a text per row."""

    path: str
    row_groups: tuple[int, ...]
    """Rows of each row group."""

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return sum(self.row_groups)


@dataclass(frozen=True)
class TextParts:
    """One column of the Parquet files of a metadata folder, in the order of the parts."""

    storage: Storage
    column: str
    parts: tuple[TextPart, ...]
    _held: dict[tuple[int, int], pa.ChunkedArray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def read(self, part: int, first: int, last: int) -> list[str]:
        """Read rows ``[first, last)`` of a part; a null is an empty text."""
        found: list[str] = []
        before = 0
        for group, size in enumerate(self.parts[part].row_groups):
            begin, end = max(first - before, 0), min(last - before, size)
            if begin < end:
                found += self._group(part, group)[begin:end].to_pylist()
            before += size
        return found

    def read_part(self, part: int) -> pa.ChunkedArray:
        """Read all rows of a part."""
        path = self.parts[part].path
        with _parquet(self.storage, path) as file:
            return file.read(columns=[self.column])[self.column]

    def _group(self, part: int, group: int) -> pa.ChunkedArray:
        column = self._held.get((part, group))
        if column is None:
            with _parquet(self.storage, self.parts[part].path) as file:
                table = file.read_row_group(group, columns=[self.column])
            column = self._held[part, group] = pc.fill_null(table[self.column], "")
            for old in list(self._held)[:-GROUPS_HELD]:
                self._held.pop(old, None)  # another thread may have been here first
        return column

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}}


@dataclass(frozen=True)
class EmbeddingParts:
    """Vectors of a folder, and captions where a metadata folder was given.

    Holds no open files and can be sent to another process.
    """

    storage: Storage
    paths: tuple[str, ...]
    """In the order of the parts' numbers, as :attr:`numbers` and :attr:`headers`."""
    numbers: tuple[int, ...]
    headers: tuple[NpyHeader, ...]
    captions: TextParts | None = None
    _mapped: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def starts(self) -> list[int]:
        """First row of each part, and the number of all rows at the end."""
        return [0, *accumulate(header.num_rows for header in self.headers)]

    @property
    def count(self) -> int:
        """Rows of all parts."""
        return self.starts[-1]

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self.headers[0].dim

    @property
    def dtype(self) -> np.dtype:
        """As stored, of every part."""
        return self.headers[0].dtype

    @property
    def byte_per_item(self) -> int:
        """Bytes of one stored vector."""
        return self.headers[0].row_bytes

    @property
    def total_size(self) -> int:
        """Bytes of all stored vectors."""
        return self.count * self.byte_per_item

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read vectors ``[start, stop)``.

        Returns:
            ``(stop - start, dimension)`` float32: values as stored, not normalised.

        Raises:
            InputError: The rows are not all there.
        """
        vectors = np.empty((stop - start, self.dimension), np.float32)
        filled = 0
        for part, first, last in self._pieces(start, stop):
            rows = self._rows(part, first, last)
            vectors[filled : filled + len(rows)] = rows
            filled += len(rows)
        return vectors

    def read_captions(self, start: int, stop: int) -> list[str]:
        """Read captions ``[start, stop)``; a null is an empty one.

        Raises:
            InputError: The rows are not all there, or the reader has no captions.
            TableError: A caption is no text.
        """
        if self.captions is None:
            raise InputError(f"{self.storage.url} was opened without a metadata folder")
        found: list[str] = []
        for part, first, last in self._pieces(start, stop):
            found += self.captions.read(part, first, last)
        return found

    def _rows(self, part: int, first: int, last: int) -> np.ndarray:
        path, header = self.paths[part], self.headers[part]
        if self.storage.local_path(path) is None:
            return read_npy_rows(self.storage, path, header, first, last)
        if path not in self._mapped:
            self._mapped[path] = map_npy(self.storage, path, header)
        return self._mapped[path][first:last]

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Give part, first and last row within it, for each part that has some."""
        if not 0 <= start <= stop <= self.count:
            raise InputError(
                f"{self.storage.url}: rows {start} to {stop} were asked for; there are "
                f"{self.count}"
            )
        part = bisect_right(self.starts, start) - 1
        while start < stop:
            before, after = self.starts[part], self.starts[part + 1]
            last = min(stop, after)
            if start < last:
                yield part, start - before, last - before
            start = last
            part += 1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}


def open_embedding_parts(url: str) -> EmbeddingParts:
    """Open the ``.npy`` files under a folder, sub-folders too; other files are ignored.

    Args:
        url: A local folder, ``s3://…``, or a web server's folder.

    Raises:
        InputError: There are none, or two have the same number, or one has none.
        TableError: A file is damaged, or has another width or dtype than the first.
    """
    storage = open_storage(url)
    files = numbered_files(storage, ".npy")
    headers = _map(lambda f: read_npy_header(storage, f.path, f), files.values())
    paths = tuple(file.path for file in files.values())
    first = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if (header.dim, header.dtype) != (first.dim, first.dtype):
            raise TableError(
                f"{storage.url}/{path} holds {header.dim} x {header.dtype}, {paths[0]} "
                f"{first.dim} x {first.dtype}; all parts must be alike: write them again "
                "with one dtype"
            )
    return EmbeddingParts(storage, paths, tuple(files), tuple(headers))


def with_captions(parts: EmbeddingParts, url: str) -> EmbeddingParts:
    """Add the column ``caption`` of a metadata folder: :func:`open_text_parts`."""
    return replace(parts, captions=open_text_parts(parts, url, "caption"))


def open_text_parts(parts: EmbeddingParts, url: str, column: str) -> TextParts:
    """Open one column of a folder of Parquet files, one for each part of vectors.

    Raises:
        InputError: As :func:`open_embedding_parts`.
        TableError: A part has no partner, or another number of rows than its partner, or
            no such column of text.
    """
    storage = open_storage(url)
    files = numbered_files(storage, ".parquet")
    check_partners(parts, storage, files)
    texts = _map(lambda file: _read_footer(storage, file.path, column), files.values())
    check_counts(parts, storage, [t.path for t in texts], [t.num_rows for t in texts])
    return TextParts(storage, column, tuple(texts))


def check_same_rows(parts: EmbeddingParts, others: EmbeddingParts) -> None:
    """Check that two readers have the same parts with as many rows.

    Raises:
        TableError: They haven't; the message names both files.
    """
    files = {
        number: StoredFile(path, 0, "")
        for number, path in zip(others.numbers, others.paths, strict=True)
    }
    check_partners(parts, others.storage, files)
    counts = [header.num_rows for header in others.headers]
    check_counts(parts, others.storage, others.paths, counts)


def numbered_files(storage: Storage, suffix: str) -> dict[int, StoredFile]:
    """List the files of a suffix by the number at the end of their names, in its order.

    A file that is alone needs no number.

    Raises:
        InputError: There are none, or two have the same number, or one has none.
    """
    files = storage.list_files(suffix=suffix)
    if not files:
        raise InputError(f"{storage.url}: there is no {suffix} file; is the URL right?")
    if len(files) == 1:
        return {_number(files[0].path) or 0: files[0]}
    found: dict[int, StoredFile] = {}
    for file in files:
        number = _number(file.path)
        if number is None:
            raise InputError(
                f"{storage.url}/{file.path}: expected a part's number at the end of its "
                f"name, as in img_emb_0{suffix}; move other {suffix} files elsewhere"
            )
        if number in found:
            raise InputError(
                f"{storage.url}: {found[number].path} and {file.path} are both part "
                f"{number}; give the folder of one kind of file"
            )
        found[number] = file
    return dict(sorted(found.items()))


def check_partners(
    parts: EmbeddingParts, storage: Storage, files: dict[int, StoredFile]
) -> None:
    """Check that two folders have the same part numbers.

    Raises:
        TableError: They haven't; the message names the first parts without a partner.
    """
    alone = [
        f"{parts.storage.url}/{path}"
        for number, path in zip(parts.numbers, parts.paths, strict=True)
        if number not in files
    ]
    alone += [
        f"{storage.url}/{file.path}"
        for number, file in files.items()
        if number not in parts.numbers
    ]
    if alone:
        listed = ", ".join(alone[:3]) + (" …" if len(alone) > 3 else "")
        raise TableError(
            f"{len(alone)} parts have no partner of the same number between "
            f"{parts.storage.url} and {storage.url}: {listed}"
        )


def check_counts(
    parts: EmbeddingParts, storage: Storage, paths: Sequence[str], counts: Sequence[int]
) -> None:
    """Check that partners have as many rows as each other.

    Raises:
        TableError: They haven't.
    """
    for path, header, other, count in zip(
        parts.paths, parts.headers, paths, counts, strict=True
    ):
        if header.num_rows != count:
            raise TableError(
                f"{parts.storage.url}/{path} has {header.num_rows} rows, its partner "
                f"{storage.url}/{other} has {count}; make both again from the same input"
            )


def _number(path: str) -> int | None:
    digits = re.search(r"(\d+)$", PurePosixPath(path).stem)
    return int(digits[1]) if digits else None


def _map(function: Callable[[StoredFile], T], files: Iterable[StoredFile]) -> list[T]:
    with ThreadPoolExecutor(OPENING_THREADS) as pool:
        return list(pool.map(function, files))


def _read_footer(storage: Storage, path: str, column: str) -> TextPart:
    with _parquet(storage, path) as file:
        schema = file.schema_arrow
        if column not in schema.names:
            raise TableError(
                f"{storage.url}/{path}: there is no column {column!r}; found "
                f"{', '.join(schema.names)}"
            )
        kind = schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise TableError(
                f"{storage.url}/{path}: column {column!r} should be text; it is {kind}"
            )
        groups = range(file.metadata.num_row_groups)
        return TextPart(path, tuple(file.metadata.row_group(g).num_rows for g in groups))


@contextmanager
def _parquet(storage: Storage, path: str) -> Iterator[pq.ParquetFile]:
    try:
        with storage.open_reader(path) as file:
            yield pq.ParquetFile(file, page_checksum_verification=True)
    except CurationError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of reading: Arrow's own about damaged bytes have no number
        raise TableError(
            f"{storage.url}/{path}: not a Parquet file that can be read ({error})"
        ) from error
