"""What a release is made of: filtered shards, and how they are looked at.

Belongs here: reading filtered shards. Which of their samples go where is decided in
``plan.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import StaleError
from curation.index import ShardIndex, build_index
from curation.recipe import DEFAULT_TEXTS, ReleaseSettings
from curation.release.query import count_copies, is_plain, needed_columns
from curation.storage.base import Storage, run_ahead
from curation.tables import FILTERED, read_table, table_about
from curation.tar import read_members

READS_AHEAD = 8  # tables under way at once, which hides the latency of S3
INDEXES_KEPT = 256  # about 3 MB each for 30,000 members
TABLES_KEPT = 8  # vectors included


@dataclass(frozen=True)
class FilteredShard:
    """What planning needs to know of one filtered shard."""

    shard: str
    """The raw shard's id."""
    keys: pa.Array
    """``(N,)`` strings, in the order of the tar."""
    num_bytes: np.ndarray
    """``(N,)`` int64: of each sample in the raw tar, headers and padding included."""
    sha256: pa.Array
    """``(N,)`` strings: of the image, null where there is none."""
    rows: str
    """Fingerprint of what its rows hold, whichever of them are kept."""
    source_version: str
    """Data version of the raw shard."""
    filter: str | None = None
    """The expression that chose them; None where nobody wrote it down."""
    encoder: object = None
    """What the vectors were made with, as JSON."""
    copies: np.ndarray | None = None
    """``(N,)`` int64: how many times each is to be in the release; None, once each."""

    def __len__(self) -> int:
        return len(self.keys)


def read_filtered_shards(
    storage: Storage,
    folder: str,
    shards: Sequence[str],
    settings: ReleaseSettings,
    made_of: Mapping[str, str] | None = None,
) -> list[FilteredShard]:
    """Read the small columns of some filtered shards.

    Args:
        storage: Where they are.
        folder: Above them, such as ``filtered/<recipe>``.
        shards: Their ids, in the order in which they are to be packed.
        settings: Say which of their samples are released, and how often.
        made_of: The fingerprint that the table of each must have; None if any will do.

    Raises:
        StaleError: One is made of something else.
        NotFoundError: A filtered shard is not there.
        TableError: A table can't be read.
    """
    plain = is_plain(settings)
    columns = {"key", "source_ranges", "sha256"}.union(
        () if plain else needed_columns(settings)
    )

    def read(shard: str) -> FilteredShard:
        expected = None if made_of is None else made_of[shard]
        path = f"{folder}/{shard}.parquet"
        table = read_table(storage, path, FILTERED, sorted(columns), made_of=expected)
        table = table.combine_chunks()
        about = table_about(table)
        return FilteredShard(
            shard,
            _array(table["key"]),
            _range_bytes(_array(table["source_ranges"])),
            _array(table["sha256"]),
            rows=rows_fingerprint(table),
            source_version=about.get("source", "unknown"),
            encoder=about.get("encoder"),
            filter=about.get("filter"),
            copies=None if plain else count_copies(table, settings),
        )

    return list(run_ahead((partial(read, shard) for shard in shards), READS_AHEAD))


def rows_fingerprint(table: pa.Table) -> str:
    """Give the fingerprint of what the rows of a filtered shard's table hold."""
    about = table_about(table)
    return str(about.get("rows", about["fingerprint"]))


class FilteredReader:
    """Reads tars and tables of filtered shards, and keeps those it may need again."""

    def __init__(
        self,
        storage: Storage,
        folder: str,
        metadata_extensions: Sequence[str] = DEFAULT_TEXTS.metadata_extensions,
    ) -> None:
        """Read below ``folder`` of ``storage``; know which component is metadata."""
        self.storage = storage
        self.metadata_extensions = tuple(metadata_extensions)
        self._folder = folder
        self.index = lru_cache(INDEXES_KEPT)(self._index)
        self.table = lru_cache(TABLES_KEPT)(self._table)

    def tar(self, shard: str) -> str:
        """Give the path of a filtered shard's tar."""
        return f"{self._folder}/{shard}.tar"

    def _index(self, shard: str) -> ShardIndex:
        """Index a filtered tar anew, from its own headers."""
        return build_index(read_members(self.storage, self.tar(shard)))

    def _table(self, shard: str) -> pa.Table:
        """Read a filtered shard's table, and make sure that it is of its tar.

        Raises:
            StaleError: Tar and table hold different samples.
        """
        path = f"{self._folder}/{shard}.parquet"
        table = read_table(self.storage, path, FILTERED)
        if table["key"].to_pylist() != self.index(shard).keys:
            raise StaleError(
                f"{self.storage.url}/{path}: the table is of other samples than its tar; "
                "delete both, and the next run makes them again"
            )
        return table


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _range_bytes(ranges: pa.ListArray) -> np.ndarray:
    flat = ranges.flatten()
    lengths = pc.subtract(flat.field("stop"), flat.field("start")).to_numpy()
    ends = np.append(0, np.cumsum(lengths))
    counts = np.append(0, np.cumsum(pc.list_value_length(ranges).to_numpy()))
    sums: np.ndarray = ends[counts[1:]] - ends[counts[:-1]]
    return sums
