"""The vector of every sample, wherever it is kept.

Three places are known: a folder of ``.npy`` files, one per shard (``img_emb_0001.npy``,
any prefix, any number of digits); an ``.npy`` in the tar among the sample's components;
the table beside a filtered shard. A sample has none where the file, the row or the
component is missing, or where the row is all zeros, which is how reordering tools fill
holes, or has a NaN or an infinite value.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.errors import InputError, TableError
from curation.key_digits import split_digits
from curation.npy import NpyHeader, map_npy, parse_npy, read_npy_header, usable_rows
from curation.storage import Storage
from curation.storage.base import StoredFile
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_table
from curation.training.indexed_shards import IndexedShards, Places
from curation.training.sample_bytes import SampleBytes
from curation.training.shard_urls import ShardFile

OPENING_THREADS = 16  # headers read at once; each is one small request
UNUSABLE = "all zeros, or has NaN or infinite values"
SHARDS_HELD = 8  # whose vectors are held, where they can't be mapped


@dataclass(frozen=True)
class KeyDigits:
    """Which digits of a key are the row of its vector; neither: its place in the tar."""

    index_width: int | None = None
    """How many at the end are the row, or"""
    shard_width: int | None = None
    """how many at the beginning are the shard."""

    def rows(self, shard: ShardFile, keys: Any) -> np.ndarray:
        """Give ``(n,)`` int64: the row of each of a shard's samples.

        Raises:
            InputError: A key doesn't fit, or is of another shard than its tar.
        """
        if self.index_width is None and self.shard_width is None:
            return np.arange(len(keys))
        names = pc.replace_substring_regex(keys, r"^.*/", "")
        shards, rows = split_digits(
            names, shard.url, index_width=self.index_width, shard_width=self.shard_width
        )
        wrong = np.flatnonzero(shards != shard.number)
        if len(wrong):
            width = (
                f"shard_width={self.shard_width}"
                if self.index_width is None
                else f"index_width={self.index_width}"
            )
            raise InputError(
                f"{shard.url}: by {width}, key {keys[int(wrong[0])].as_py()!r} is of shard "
                f"{shards[wrong[0]]}, but it lies in shard {shard.number}; is the width "
                "right?"
            )
        return rows


class SampleVectors(ABC):
    """Vectors by sample number."""

    dim: int
    """Numbers in a vector."""
    random_access: bool
    """Whether any vector can be read as soon as any other."""

    @abstractmethod
    def read(self, samples: np.ndarray) -> np.ndarray:
        """Give ``(n, dim)`` float32: values as stored, zeros where there is no vector.

        Raises:
            TableError: What is stored is damaged or of another width.
        """

    @abstractmethod
    def present(self) -> np.ndarray:
        """Find out for all samples whether there is a vector: ``(N,)`` bool.

        Reads all vectors, except those in tars: of them it is told by the index.
        """

    @abstractmethod
    def where(self, sample: int) -> str:
        """Say where a sample's vector should be, for a person."""


class _ByShard(SampleVectors):
    """Vectors that come as one array per shard."""

    def __init__(self, indexed: IndexedShards) -> None:
        self.indexed = indexed
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    @abstractmethod
    def load(self, shard: int) -> np.ndarray:
        """Give ``(samples or more, dim)``: all vectors of a shard."""

    @abstractmethod
    def rows(self, shard: int) -> np.ndarray:
        """Give ``(samples,)`` int64: which row each sample of a shard has; -1, none."""

    def read(self, samples: np.ndarray) -> np.ndarray:
        found = np.zeros((len(samples), self.dim), np.float32)
        shards = self.indexed.shards_of(samples)
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            rows = self.rows(shard)[samples[here] - self.indexed.starts[shard]]
            has_row = rows >= 0
            if has_row.any():
                found[here[has_row]] = self._array(shard)[rows[has_row]]
        return found

    def present(self) -> np.ndarray:
        found = np.zeros(self.indexed.num_samples, bool)
        starts = self.indexed.starts
        for shard, (first, last) in enumerate(pairwise(starts.tolist())):
            rows = self.rows(shard)
            if (rows >= 0).any():
                has_vector = np.append(usable_rows(self.load(shard)), False)
                found[first:last] = has_vector[rows]  # row -1 is the False at the end
        return found

    def _array(self, shard: int) -> np.ndarray:
        array = self._held.get(shard)
        if array is None:
            array = self._held[shard] = self.load(shard)
            if not self.random_access and len(self._held) > SHARDS_HELD:
                self._held.popitem(last=False)
        return array

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": OrderedDict()}


class FolderVectors(_ByShard):
    """A folder of ``.npy`` files, each for the tar of the same number."""

    def __init__(
        self,
        indexed: IndexedShards,
        storage: Storage,
        files: Mapping[int, Sequence[StoredFile]],
        digits: KeyDigits,
    ) -> None:
        super().__init__(indexed)
        self.storage = storage
        self.files = _files_of(indexed.shards, files)
        self.headers = _headers(storage, self.files)
        known = [header for header in self.headers if header]
        if not known:
            raise InputError(
                f"{storage.url}: no .npy has the number of a tar; the first tar is "
                f"{indexed.shards[0].url}"
            )
        self.dim = known[0].dim
        self.random_access = all(
            storage.local_path(file.path) is not None for file in self.files if file
        )
        chunks = indexed.keys.chunks
        self._rows = [
            self._rows_of(shard, digits.rows(indexed.shards[shard], chunks[shard]))
            for shard in range(len(chunks))
        ]
        if digits == KeyDigits():
            self._check_counts()

    def load(self, shard: int) -> np.ndarray:
        file, header = self.files[shard], self.headers[shard]
        assert file is not None and header is not None
        return map_npy(self.storage, file.path, header)

    def rows(self, shard: int) -> np.ndarray:
        return self._rows[shard]

    def where(self, sample: int) -> str:
        shard = int(self.indexed.shards_of(np.array([sample]))[0])
        file = self.files[shard]
        if file is None:
            return f"no .npy of number {self.indexed.shards[shard].number} in its folder"
        header = self.headers[shard]
        assert header is not None
        row = int(self._rows[shard][sample - self.indexed.starts[shard]])
        if row < 0:
            return f"{self.storage.url}/{file.path} ends after {header.num_rows} rows"
        return f"row {row} of {self.storage.url}/{file.path} is {UNUSABLE}"

    def _rows_of(self, shard: int, rows: np.ndarray) -> np.ndarray:
        header = self.headers[shard]
        num_rows = header.num_rows if header else 0
        return np.where(rows < num_rows, rows, -1)

    def _check_counts(self) -> None:
        for shard, file, header, count in zip(
            self.indexed.shards, self.files, self.headers, self.indexed.counts, strict=True
        ):
            if file and header and header.num_rows != count:
                raise TableError(
                    f"{self.storage.url}/{file.path} has {header.num_rows} rows, "
                    f"{shard.url} {count} samples; give index_width or shard_width if rows "
                    "follow from the digits of keys"
                )


class TarVectors(SampleVectors):
    """An ``.npy`` among each sample's components."""

    random_access = True  # as its sample

    def __init__(self, indexed: IndexedShards, places: Places, reader: SampleBytes) -> None:
        self.indexed = indexed
        self.places = places
        self.reader = reader
        first = np.flatnonzero(places.starts >= 0)[:1]
        (data,) = reader.read(first, places)
        vector = parse_npy(data, indexed.name(int(first[0]))).reshape(-1)
        self.dim, self._dtype = len(vector), vector.dtype
        # nearly all files begin as the first does, and parsing that again takes longest
        self._head, self._size = data[: len(data) - vector.nbytes], len(data)

    def read(self, samples: np.ndarray) -> np.ndarray:
        found = np.zeros((len(samples), self.dim), np.float32)
        here = np.flatnonzero(self.places.starts[samples] >= 0)
        files = self.reader.read(samples[here], self.places)
        if all(len(d) == self._size and d.startswith(self._head) for d in files):
            stored = np.frombuffer(b"".join(files), np.uint8).reshape(
                len(files), self._size
            )
            found[here] = stored[:, len(self._head) :].view(self._dtype)
            return found
        for place, data in zip(here.tolist(), files, strict=True):
            found[place] = self._vector(data, int(samples[place]))
        return found

    def present(self) -> np.ndarray:
        found: np.ndarray = self.places.starts >= 0
        return found

    def where(self, sample: int) -> str:
        return f"its .npy in the tar is missing or {UNUSABLE}"

    def _vector(self, data: bytes, sample: int) -> np.ndarray:
        vector = parse_npy(data, self.indexed.name(sample)).reshape(-1)
        if len(vector) != self.dim:
            raise TableError(
                f"{self.indexed.name(sample)}: its .npy has {len(vector)} numbers, the "
                f"first one has {self.dim}"
            )
        return vector


class TableVectors(_ByShard):
    """The column ``image_embedding`` of the tables beside filtered shards, by key."""

    random_access = False

    def __init__(self, indexed: IndexedShards) -> None:
        super().__init__(indexed)
        self._rows: dict[int, np.ndarray] = {}
        first = int(np.flatnonzero(indexed.counts)[0])
        self.dim = 0
        self.dim = self.load(first).shape[1]

    def load(self, shard: int) -> np.ndarray:
        storage, path = self._file(shard)
        table = read_table(storage, path, FILTERED, ["key", EMBEDDING])
        vectors, _ = embedding_matrix(table[EMBEDDING])
        if self.dim not in (0, vectors.shape[1]):
            raise TableError(
                f"{storage.url}/{path}: vectors of {vectors.shape[1]} numbers; those of "
                f"the first table have {self.dim}"
            )
        keys = self.indexed.keys.chunks[shard]
        rows = pc.index_in(keys, value_set=table["key"].combine_chunks())
        self._rows[shard] = pc.fill_null(rows, -1).to_numpy(zero_copy_only=False)
        return vectors

    def rows(self, shard: int) -> np.ndarray:
        if shard not in self._rows:
            self._array(shard)
        return self._rows[shard]

    def where(self, sample: int) -> str:
        shard = int(self.indexed.shards_of(np.array([sample]))[0])
        return f"{self._file(shard)[1]} has no row with a vector for it"

    def _file(self, shard: int) -> tuple[Storage, str]:
        return _table_beside(self.indexed.shards[shard])


def open_folder(
    indexed: IndexedShards, storage: Storage, digits: KeyDigits, preferred: str
) -> FolderVectors:
    """Open the ``.npy`` files of a folder.

    Args:
        indexed: The samples.
        storage: The folder. Files that are no ``.npy``, or without a number at the end of
            their names, are left alone.
        digits: How a key tells the row.
        preferred: The prefix to take where there are several, such as ``img_emb_``.

    Raises:
        InputError: There are none, or it is not clear which, or a tar has no number, or
            the keys don't fit.
        TableError: A file is damaged, or has another width, dtype or number of rows than
            it should.
    """
    files = vector_files(storage)
    if not files:
        raise InputError(
            f"{storage.url}: there is no .npy with a number at the end of its name, such "
            f"as {preferred}0001.npy; is the URL right?"
        )
    prefix = next(iter(files)) if len(files) == 1 else preferred
    if prefix not in files:
        raise InputError(
            f"{storage.url}: there are .npy files of several kinds, {', '.join(files)}; "
            f"give a folder of one kind, or name those wanted {preferred}…"
        )
    return FolderVectors(indexed, storage, files[prefix], digits)


def vector_files(storage: Storage) -> dict[str, dict[int, list[StoredFile]]]:
    """List the numbered ``.npy`` files of a folder: prefix of the name to number to files.

    Raises:
        InputError: Two of one prefix and one sub-folder have the same number.
    """
    found: dict[str, dict[int, list[StoredFile]]] = {}
    for file in storage.list_files(suffix=".npy"):
        digits = re.search(r"\d+$", PurePosixPath(file.path).stem)
        if not digits:
            continue
        prefix = PurePosixPath(file.path).stem[: digits.start()]
        same = found.setdefault(prefix, {}).setdefault(int(digits[0]), [])
        for other in same:
            if _folder(other.path) == _folder(file.path):
                raise InputError(
                    f"{storage.url}: {other.path} and {file.path} are both of shard "
                    f"{int(digits[0])}"
                )
        same.append(file)
    return found


def _files_of(
    shards: Sequence[ShardFile], files: Mapping[int, Sequence[StoredFile]]
) -> list[StoredFile | None]:
    """Find the file of each shard: by its number, and if that is not enough by its folder.

    Raises:
        InputError: A shard has no number, or two would have one file.
    """
    numbers = [_number(shard) for shard in shards]
    times = Counter(numbers)
    found: list[StoredFile | None] = []
    for shard, number in zip(shards, numbers, strict=True):
        near = files.get(number, ())
        if times[number] > 1 or len(near) > 1:
            near = [file for file in near if _is_beside(shard, file)]
            near.sort(key=lambda file: len(_folder(file.path)), reverse=True)
        if near and near[0] in found:
            other = shards[found.index(near[0])].url
            raise InputError(
                f"{near[0].path} has the number of {other} and of {shard.url}; put the "
                "vectors of each into a sub-folder that is called as the tar's"
            )
        found.append(near[0] if near else None)
    return found


def _is_beside(shard: ShardFile, file: StoredFile) -> bool:
    """Tell whether a file of vectors lies in the sub-folder that a tar lies in."""
    folder = _folder(file.path)
    return f"/{_folder(shard.url)}".endswith(f"/{folder}") if folder else True


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def find_vectors(indexed: IndexedShards, npy: Places, reader: SampleBytes) -> SampleVectors:
    """Find vectors that no folder was named for: in the tars, or beside them.

    Raises:
        InputError: There are none.
        TableError: They are damaged.
    """
    if (npy.starts >= 0).any():
        return TarVectors(indexed, npy, reader)
    shard = indexed.shards[0]
    if "img_emb_" in vector_files(shard.storage):
        return open_folder(indexed, shard.storage, KeyDigits(), "img_emb_")
    storage, path = _table_beside(shard)
    if storage.exists(path):
        return TableVectors(indexed)
    raise InputError(
        f"{shard.url}: no sample has an .npy, and beside the tars there are neither "
        "img_emb_*.npy nor tables of filtered shards; give embeddings_url"
    )


def _headers(
    storage: Storage, files: Sequence[StoredFile | None]
) -> list[NpyHeader | None]:
    def read(file: StoredFile | None) -> NpyHeader | None:
        return read_npy_header(storage, file.path, file) if file else None

    with ThreadPoolExecutor(OPENING_THREADS) as threads:
        headers = list(threads.map(read, files))
    known = [(file, header) for file, header in zip(files, headers, strict=True) if header]
    for file, header in known[1:]:
        first_file, first = known[0]
        if (header.dim, header.dtype) != (first.dim, first.dtype):
            assert file is not None and first_file is not None
            raise TableError(
                f"{storage.url}/{file.path} holds {header.dim} x {header.dtype}, "
                f"{first_file.path} {first.dim} x {first.dtype}; all must be alike: write "
                "them again with one dtype"
            )
    return headers


def _number(shard: ShardFile) -> int:
    if shard.number is None:
        raise InputError(
            f"{shard.url}: its name has to end with a number for its .npy to be found"
        )
    return shard.number


def _table_beside(shard: ShardFile) -> tuple[Storage, str]:
    return shard.storage, f"{shard.path.removesuffix('.tar')}.parquet"
