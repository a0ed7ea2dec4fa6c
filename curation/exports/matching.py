"""Embeddings that clip-retrieval wrote, in whatever order, matched by key to their shards.

clip-retrieval writes vectors in the order in which its workers came by, beside a column of
keys. A decoder is trained from one file per shard in which a sample's row follows from its
key. This is the way from one to the other. Every input row ends in the output or in the
report: keys that come twice, samples without a vector, shards whose rows came from several
parts, keys that no shard has.

Memory holds about 40 bytes for a row, of at most ``ROWS_AT_ONCE`` rows, and a block of
vectors, however large the data; parts and shards can be local or remote.

Source: embedding-dataset-reordering (the file names and the meaning of a row),
clip-retrieval 2.45 (what is matched).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from curation.embedding_parts import (
    EmbeddingParts,
    TextParts,
    open_embedding_parts,
    open_text_parts,
)
from curation.errors import InputError
from curation.index import build_index
from curation.key_digits import split_digits
from curation.npy import npy_writer, read_npy_scattered
from curation.storage import Storage, open_storage
from curation.tar import read_members

KEY_COLUMN = "image_path"  # where clip-retrieval puts the sample's key

ROWS_AT_ONCE = 50_000_000  # placed in one pass; more are placed in several
BLOCK_BYTES = 4 << 20  # of vectors, put in order before they are written


@dataclass(frozen=True)
class MatchReport:
    """What became of every row."""

    num_rows: int
    """Of the input."""
    num_matched: int
    """Of them in the output."""
    shards: pa.Table
    """One row per file that was written: ``shard``, ``path``, ``rows``, ``matched``,
    ``missing`` (rows of zeros), ``parts`` (how many parts its vectors came from)."""
    duplicates: pa.Table
    """One row per input row whose key came before: ``shard``, ``row``, ``part`` and
    ``part_row``, where the kept one is (``kept_part``, ``kept_part_row``), and whether
    both vectors are the ``same``."""
    unmatched: pa.Table
    """One row per input row whose key no shard has: ``key``, ``part``, ``part_row``."""
    not_finite: pa.Table
    """One row per input row whose vector has a NaN or an infinite value, so that its row
    of the output is zeros: as ``unmatched``."""

    @property
    def num_missing(self) -> int:
        """Rows of zeros in the output: samples, or holes in the keys, without a vector."""
        return int(self.shards["missing"].to_numpy().sum())

    @property
    def num_spread_shards(self) -> int:
        """Shards whose vectors came from more than one part."""
        return int((self.shards["parts"].to_numpy() > 1).sum())


def match_embeddings(
    embeddings_url: str,
    metadata_url: str,
    output_url: str,
    *,
    index_width: int | None = None,
    shard_width: int = 5,
    shard_keys: Mapping[str, Sequence[str]] | None = None,
    key_column: str = KEY_COLUMN,
) -> MatchReport:
    """Write one file of vectors per shard, in the order of the shard.

    Files are named as the parts are: ``img_emb_0.npy …`` give ``img_emb_00000.npy …``,
    ``text_emb_0.npy …`` give ``text_emb_00000.npy …``, in the sub-folder that the shard's
    name has; their dtype is the parts'. Where
    two rows have one key, the first counts, in the order of the parts' numbers. Where a
    row has no vector it is all zeros.

    Args:
        embeddings_url: Folder of parts, ``…_0.npy``, ``…_1.npy`` and so on.
        metadata_url: Folder of ``…_0.parquet`` and so on, row for row with the parts.
        output_url: Folder to write to; files of the same names are replaced.
        index_width: How many digits at the end of a key are its row; those before are its
            shard. For img2dataset that is the number of digits of its shard size - 1.
            A file then ends with the last row that has a vector.
        shard_width: Digits of the shard in the names of files, with ``index_width``.
        shard_keys: Instead of ``index_width``, for keys of any kind: the keys of every
            shard by its name. Rows then follow the shard's order, every shard gets a file
            with as many rows as it has keys, and keys of no shard are reported.
        key_column: Column of the metadata that holds the keys.

    Raises:
        InputError: Both or none of ``index_width`` and ``shard_keys`` are given, a key does
            not have those digits, or a key comes twice in ``shard_keys``.
        TableError: Parts are damaged, differ, or don't belong together.
    """
    parts = open_embedding_parts(embeddings_url)
    keys = open_text_parts(parts, metadata_url, key_column)
    if (index_width is None) == (shard_keys is None):
        raise InputError(
            "match_embeddings needs either index_width (rows from the digits of keys) or "
            "shard_keys (rows from the order of each shard)"
        )
    places: _Places
    if index_width is not None:
        places = _DigitPlaces(index_width, shard_width)
    else:
        places = _ListedPlaces(shard_keys or {})
    return _Matching(parts, keys, open_storage(output_url), places).run()


def read_shard_keys(source: Storage) -> dict[str, list[str]]:
    """Read the keys of all tars of a folder, for :func:`match_embeddings`.

    Returns:
        Keys in the order of each tar, by the tar's base name without ``.tar``; where two
        in different folders have one name, by the path of each.

    Raises:
        InputError: There is no tar.
        ShardError: A tar is damaged.
    """
    paths = [file.path for file in source.list_files(suffix=".tar")]
    if not paths:
        raise InputError(f"{source.url}: there is no .tar in this folder")
    names = [PurePosixPath(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [path.removesuffix(".tar") for path in paths]
    keys = (build_index(read_members(source, path)).keys for path in paths)
    return dict(zip(names, keys, strict=True))


@dataclass(frozen=True)
class _Rows:
    """Where input rows go; a column per array, of equal length."""

    shard: np.ndarray
    """int64; -1 for none."""
    row: np.ndarray
    """int64, in the shard."""
    part: np.ndarray
    """int32: place of the part in the list of parts."""
    part_row: np.ndarray
    """int64."""

    def taken(self, rows: np.ndarray) -> "_Rows":
        return _Rows(self.shard[rows], self.row[rows], self.part[rows], self.part_row[rows])

    def __len__(self) -> int:
        return len(self.shard)


class _Places(ABC):
    """Knows which row of which shard a key is."""

    num_rows: Mapping[int, int]
    """Shard to rows, where that is known beforehand."""

    @abstractmethod
    def find(self, keys: pa.ChunkedArray, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Give ``(n,)`` int64 shards, -1 for none, and ``(n,)`` int64 rows."""

    @abstractmethod
    def name(self, shard: int) -> str:
        """Spell a shard as its file's name does."""


class _DigitPlaces(_Places):
    def __init__(self, index_width: int, shard_width: int) -> None:
        self.index_width = index_width
        self.shard_width = shard_width
        self.num_rows = {}

    def find(self, keys: pa.ChunkedArray, where: str) -> tuple[np.ndarray, np.ndarray]:
        return split_digits(keys, where, index_width=self.index_width)

    def name(self, shard: int) -> str:
        return str(shard).zfill(self.shard_width)


class _ListedPlaces(_Places):
    """Looks keys up by a hash of 64 bits, sorted: 20 bytes for a key, not 100."""

    def __init__(self, shard_keys: Mapping[str, Sequence[str]]) -> None:
        self.names = list(shard_keys)
        self.num_rows = {shard: len(shard_keys[n]) for shard, n in enumerate(self.names)}
        hashes = [_hashes(pa.array(shard_keys[name], pa.string())) for name in self.names]
        sizes = [len(found) for found in hashes]
        all_hashes = np.concatenate([np.empty(0, np.uint64), *hashes])
        order = np.argsort(all_hashes, kind="stable")
        self.hashes = all_hashes[order]
        shards = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        rows = np.concatenate([np.empty(0, np.int64), *map(np.arange, sizes)])
        self.shards, self.rows = shards[order], rows[order]
        again = np.flatnonzero(self.hashes[1:] == self.hashes[:-1])
        if len(again):
            shard, row = int(self.shards[again[0]]), int(self.rows[again[0]])
            name = self.names[shard]
            raise InputError(
                f"shard_keys: key {shard_keys[name][row]!r} of shard {name} comes twice; "
                "match the shards that share keys one by one"
            )

    def find(self, keys: pa.ChunkedArray, where: str) -> tuple[np.ndarray, np.ndarray]:
        wanted = _hashes(keys)
        if not len(self.hashes):
            return np.full(len(wanted), -1), np.zeros(len(wanted), np.int64)
        place = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        known = self.hashes[place] == wanted
        return np.where(known, self.shards[place], -1), self.rows[place]

    def name(self, shard: int) -> str:
        return self.names[shard]


class _Matching:
    """One call of :func:`match_embeddings`."""

    def __init__(
        self, parts: EmbeddingParts, keys: TextParts, out: Storage, places: _Places
    ) -> None:
        self.parts, self.keys, self.out, self.places = parts, keys, out, places
        self.prefix = _prefix(parts.paths[0])
        self.shards: list[dict[str, object]] = []
        self.duplicates: list[pa.Table] = []
        self.unmatched: list[pa.Table] = []
        self.not_finite: list[pa.Table] = []

    def run(self) -> MatchReport:
        for group in self._groups():
            self._write_group(group)
        self._write_empty_shards()
        shards = pa.Table.from_pylist(self.shards, _SHARDS).sort_by("shard")
        return MatchReport(
            self.parts.count,
            int(shards["matched"].to_numpy().sum()),
            shards,
            pa.concat_tables([_DUPLICATES.empty_table(), *self.duplicates]),
            pa.concat_tables([_UNMATCHED.empty_table(), *self.unmatched]),
            pa.concat_tables([_UNMATCHED.empty_table(), *self.not_finite]),
        )

    def _groups(self) -> Iterator[_Rows]:
        """Give the rows of some shards after the other, few enough to hold."""
        if self.parts.count <= ROWS_AT_ONCE:
            yield self._placed(None)
            return
        for shards in self._shard_ranges():
            yield self._placed(shards)

    def _shard_ranges(self) -> list[tuple[int, int]]:
        """Count the rows of each shard; cut where a group becomes too large."""
        counts: dict[int, int] = {}
        for part in range(len(self.parts.paths)):
            found = np.unique(self._find(part)[0], return_counts=True)
            for shard, count in zip(*map(np.ndarray.tolist, found), strict=True):
                counts[shard] = counts.get(shard, 0) + count
        cuts, held = [min(counts)], 0
        for shard in sorted(counts):
            held += counts[shard]
            if held > ROWS_AT_ONCE and shard != cuts[-1]:
                cuts.append(shard)
                held = counts[shard]
        return list(pairwise([*cuts, max(counts) + 1]))

    def _placed(self, shards: tuple[int, int] | None) -> _Rows:
        """Place the rows of shards ``[first, last)``, or of all."""
        found: list[_Rows] = []
        for part in range(len(self.parts.paths)):
            shard, row = self._find(part)
            rows = _Rows(
                shard, row, np.full(len(shard), part, np.int32), np.arange(len(shard))
            )
            if shards is not None:
                inside = (shard >= shards[0]) & (shard < shards[1])
                rows = rows.taken(np.flatnonzero(inside))
            found.append(rows)
        joined = _Rows(
            *(
                np.concatenate([getattr(rows, name) for rows in found])
                for name in ("shard", "row", "part", "part_row")
            )
        )
        # a stable sort keeps equal keys in the order of the parts
        return joined.taken(np.lexsort((joined.row, joined.shard)))

    def _find(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        where = f"{self.keys.storage.url}/{self.keys.parts[part].path}"
        return self.places.find(self.keys.read_part(part), where)

    def _write_group(self, rows: _Rows) -> None:
        lost = int(np.searchsorted(rows.shard, 0))
        self.unmatched += self._listed(rows.taken(np.arange(lost)))
        rows = rows.taken(np.arange(lost, len(rows)))
        again = np.zeros(len(rows), bool)
        again[1:] = (np.diff(rows.shard) == 0) & (np.diff(rows.row) == 0)
        if again.any():
            self._report_duplicates(rows, again)
            rows = rows.taken(np.flatnonzero(~again))
        cuts = [0, *(np.flatnonzero(np.diff(rows.shard)) + 1).tolist(), len(rows)]
        for begin, end in pairwise(cuts if len(rows) else [0]):
            self._write_shard(rows.taken(np.arange(begin, end)))

    def _write_shard(self, rows: _Rows) -> None:
        shard = int(rows.shard[0])
        num_rows = self.places.num_rows.get(shard, int(rows.row[-1]) + 1)
        header = self.parts.headers[0]
        path = self._path(self.places.name(shard))
        damaged = 0
        block_rows = max(1, BLOCK_BYTES // header.row_bytes)
        with npy_writer(self.out, path, num_rows, header.dim, header.dtype) as writer:
            for first in range(0, num_rows, block_rows):
                last = min(first + block_rows, num_rows)
                inside = np.arange(*np.searchsorted(rows.row, (first, last)))
                block = np.zeros((last - first, header.dim), header.dtype)
                damaged += self._fill(block, first, rows.taken(inside))
                writer.write(block)
        self._report_shard(shard, path, num_rows, rows, damaged)

    def _fill(self, block: np.ndarray, first: int, rows: _Rows) -> int:
        """Read vectors into the rows of a block, whose first row is ``first``.

        Returns:
            How many are not finite, and are left zeros.
        """
        num_damaged = 0
        for part in np.unique(rows.part):
            here = rows.taken(np.flatnonzero(rows.part == part))
            order = np.argsort(here.part_row, kind="stable")
            vectors = self._vectors(int(part), here.part_row[order])
            finite = np.isfinite(vectors).all(axis=1)
            block[here.row[order][finite] - first] = vectors[finite]
            if not finite.all():
                damaged = here.taken(order[~finite])
                self.not_finite += self._listed(damaged)
                num_damaged += len(damaged)
        return num_damaged

    def _vectors(self, part: int, part_rows: np.ndarray) -> np.ndarray:
        header = self.parts.headers[part]
        return read_npy_scattered(
            self.parts.storage, self.parts.paths[part], header, part_rows
        )

    def _write_empty_shards(self) -> None:
        """Write the shards that no row was found for, if they are known."""
        written = {row["shard"] for row in self.shards}
        nothing = _Rows(*(np.empty(0, np.int64) for _ in range(4)))
        header = self.parts.headers[0]
        for shard, num_rows in self.places.num_rows.items():
            name = self.places.name(shard)
            if name in written:
                continue
            path = self._path(name)
            zeros = np.zeros((1, header.dim), header.dtype)
            with npy_writer(self.out, path, num_rows, header.dim, header.dtype) as writer:
                for _ in range(num_rows):
                    writer.write(zeros)
            self._report_shard(shard, path, num_rows, nothing)

    def _path(self, shard: str) -> str:
        """Name a shard's file, which lies in the sub-folder that the shard lies in."""
        path = PurePosixPath(shard)
        return str(path.with_name(f"{self.prefix}{path.name}.npy"))

    def _report_shard(
        self, shard: int, path: str, num_rows: int, rows: _Rows, damaged: int = 0
    ) -> None:
        self.shards.append(
            {
                "shard": self.places.name(shard),
                "path": path,
                "rows": num_rows,
                "matched": len(rows) - damaged,
                "missing": num_rows - len(rows) + damaged,
                "parts": len(np.unique(rows.part)),
            }
        )

    def _report_duplicates(self, rows: _Rows, again: np.ndarray) -> None:
        place = np.flatnonzero(again)
        kept = np.maximum.accumulate(np.where(again, 0, np.arange(len(rows))))[place]
        same = [
            np.array_equal(self._vector(rows, one), self._vector(rows, other))
            for one, other in zip(place.tolist(), kept.tolist(), strict=True)
        ]
        columns = {
            "shard": [self.places.name(shard) for shard in rows.shard[place].tolist()],
            "row": rows.row[place],
            "part": self._numbers(rows.part[place]),
            "part_row": rows.part_row[place],
            "kept_part": self._numbers(rows.part[kept]),
            "kept_part_row": rows.part_row[kept],
            "same": same,
        }
        self.duplicates.append(pa.table(columns, _DUPLICATES))

    def _vector(self, rows: _Rows, place: int) -> np.ndarray:
        return self._vectors(int(rows.part[place]), rows.part_row[place : place + 1])

    def _listed(self, rows: _Rows) -> list[pa.Table]:
        """List input rows with their keys."""
        found = []
        for part in np.unique(rows.part):
            part_rows = np.sort(rows.part_row[rows.part == part])
            columns = {
                "key": self.keys.read_part(int(part)).take(part_rows),
                "part": self._numbers(np.full(len(part_rows), part)),
                "part_row": part_rows,
            }
            found.append(pa.table(columns).cast(_UNMATCHED))
        return found

    def _numbers(self, parts: np.ndarray) -> np.ndarray:
        """Give the numbers in the names of parts."""
        numbers: np.ndarray = np.array(self.parts.numbers, np.int64)[parts]
        return numbers


_SHARDS = pa.schema(
    [("shard", pa.string()), ("path", pa.string())]
    + [(name, pa.int64()) for name in ("rows", "matched", "missing", "parts")]
)
_DUPLICATES = pa.schema(
    [("shard", pa.string())]
    + [(name, pa.int64()) for name in ("row", "part", "part_row")]
    + [("kept_part", pa.int64()), ("kept_part_row", pa.int64()), ("same", pa.bool_())]
)
_UNMATCHED = pa.schema(
    [("key", pa.string()), ("part", pa.int64()), ("part_row", pa.int64())]
)


def _prefix(path: str) -> str:
    """Give what stands before the number in a part's name."""
    return re.sub(r"\d+$", "", PurePosixPath(path).stem)


def _hashes(keys: pa.Array | pa.ChunkedArray) -> np.ndarray:
    import polars as pl

    series = pl.Series(pa.chunked_array([keys]) if isinstance(keys, pa.Array) else keys)
    hashed: np.ndarray = series.hash(seed=0).to_numpy()
    return hashed
