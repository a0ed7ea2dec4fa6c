"""Samples that no release may hold again.

Belongs here: recording them, and finding them among samples. Every takedown is a table of
its own, written before any release is made without them, so that they stay away even if
that is interrupted. A sample stays away by its place in the raw shards and by its image's
sha256: the same picture under another key is the same picture.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.artifacts import TAKEDOWNS
from curation.errors import NotFoundError, TableError
from curation.fingerprint import fingerprint
from curation.release.sources import FilteredShard
from curation.storage.base import Storage
from curation.tables import TAKEN_DOWN, read_table, write_table


def read_takedowns(output: Storage) -> pa.Table:
    """Read all that was taken down from the releases of an output.

    Returns:
        A ``TAKEN_DOWN`` table.

    Raises:
        TableError: A table of takedowns can't be read: no release is made without it.
    """
    files = output.list_files(TAKEDOWNS, suffix=".parquet")
    try:
        tables = [read_table(output, file.path, TAKEN_DOWN) for file in files]
    except (NotFoundError, TableError) as error:
        raise TableError(
            f"{error}: without it, what was taken down could come back; restore the file "
            "from a copy"
        ) from error
    empty = pa.schema(TAKEN_DOWN.columns).empty_table()
    tables = [table.replace_schema_metadata() for table in tables]
    return pa.concat_tables([empty, *tables]).combine_chunks()


def count_takedowns(output: Storage) -> int:
    """Count the samples that were taken down, to see whether more were."""
    return len(read_takedowns(output))


def write_takedown(output: Storage, samples: pa.Table) -> str:
    """Record samples as taken down.

    Args:
        output: Where to.
        samples: A ``TAKEN_DOWN`` table.

    Returns:
        The record's path. The same samples have the same one.
    """
    made_of = fingerprint("takedown", samples.to_pylist())
    path = f"{TAKEDOWNS}/{made_of}.parquet"
    write_table(output, path, TAKEN_DOWN, samples, fingerprint=made_of)
    return path


def mask_taken_down(filtered: FilteredShard, taken_down: pa.Table) -> np.ndarray:
    """Tell which samples of a filtered shard were taken down: ``(N,)`` bool."""
    own = taken_down.filter(pc.equal(taken_down["source_shard"], filtered.shard))
    mask: np.ndarray = _is_in(filtered.keys, own["source_key"])
    mask |= _is_in(filtered.sha256, taken_down["sha256"])
    return mask


def mask_rows(table: pa.Table, taken_down: pa.Table) -> np.ndarray:
    """Tell which rows of a release's table were taken down: ``(N,)`` bool.

    Args:
        table: With ``source_shard``, ``source_key``, ``sha256``.
        taken_down: A ``TAKEN_DOWN`` table.
    """
    mask: np.ndarray = _is_in(_places(table), _places(taken_down))
    mask |= _is_in(table["sha256"], taken_down["sha256"])
    return mask


def _places(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["source_shard"], table["source_key"], "\0")


def _is_in(values: pa.Array | pa.ChunkedArray, among: pa.ChunkedArray) -> np.ndarray:
    found = pc.is_in(values, value_set=among.combine_chunks().drop_null())
    return np.asarray(found, dtype=bool)


def taken_down_table(rows: Sequence[dict[str, str | None]]) -> pa.Table:
    """Make a ``TAKEN_DOWN`` table of rows."""
    return pa.Table.from_pylist(list(rows), pa.schema(TAKEN_DOWN.columns))
