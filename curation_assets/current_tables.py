"""A recipe's tables as they should be now: what was made of something else is not theirs.

Every fingerprint follows from the tars at the source and the recipe, without Dagster's
records, so that whoever reads a table knows what it must be made of: a table that another
recipe wrote under the same path, or that is out of date, is as good as not there.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import pyarrow as pa

from curation.errors import NotFoundError, StaleError
from curation.fingerprint import fingerprint
from curation.storage import Storage, StoredFile
from curation.tables import (
    DUPLICATES,
    EMBEDDINGS,
    FILTERED,
    SCORES,
    SELECTION,
    made_of_something_else,
    read_table,
    table_about,
)
from curation_assets.duplicates import duplicates_version
from curation_assets.filter_cuts import read_cuts
from curation_assets.lineage import Lineage

_KINDS = {
    "embeddings": EMBEDDINGS,
    "scores": SCORES,
    "duplicates": DUPLICATES,
    "selection": SELECTION,
    "filtered_shard": FILTERED,
}
_DUPLICATES_KEPT = 8


class CurrentTables:
    """Reads tables of one recipe, and none that are made of something else."""

    def __init__(
        self, lineage: Lineage, output: Storage, tars: Mapping[str, StoredFile]
    ) -> None:
        """Read tables of some shards.

        Args:
            lineage: Of the recipe.
            output: Where the tables are.
            tars: Of the shards, as they are at the source.
        """
        self.lineage, self.output, self._tars = lineage, output, tars
        self._duplicates = lru_cache(_DUPLICATES_KEPT)(self._read_duplicates)

    def read(
        self, asset: str, shard: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read the table of an asset for a shard.

        Raises:
            NotFoundError: It, or what it is made of, is not there.
            StaleError: It, or what it is made of, is made of something else.
        """
        if asset == "duplicates":
            table = self._duplicates(shard)
            return table if columns is None else table.select(list(columns))
        path = self.lineage.artifacts.of(asset, shard)[-1]
        made_of = self.version(asset, shard)
        return read_table(self.output, path, _KINDS[asset], columns, made_of=made_of)

    def version(self, asset: str, shard: str) -> str:
        """Give the fingerprint that an asset's file must have.

        Raises:
            NotFoundError, StaleError: As :meth:`read`, of what it is made of.
        """
        if asset == "filter_cuts":
            return self._cuts
        if asset == "duplicates":
            return str(table_about(self._duplicates(shard))["fingerprint"])
        of_tar = self._of_tar(shard)
        if asset in of_tar:
            return of_tar[asset]
        inputs = {n: self.version(n, shard) for n in self.lineage.inputs(asset)}
        return self.lineage.expected(asset, inputs)

    def _of_tar(self, shard: str) -> Mapping[str, str]:
        if shard not in self._tars:
            raise NotFoundError(f"{shard}: there is no such shard at the source")
        return self.lineage.made_of_tar(self._tars[shard])

    def _read_duplicates(self, shard: str) -> pa.Table:
        """Read a shard's copies, which say what they were found by and among."""
        path = self.lineage.artifacts.duplicates(shard)
        table = read_table(self.output, path, DUPLICATES)
        about = table_about(table)
        same_rule = about.get("fingerprint") == duplicates_version(self.lineage, table)
        if not same_rule or about.get("embeddings") != self._of_tar(shard)["embeddings"]:
            raise made_of_something_else(self.output, path)
        return table

    @cached_property
    def _cuts(self) -> str:
        values = read_cuts(self.output, self.lineage.artifacts.filter_cuts)
        return fingerprint("filter_cuts", values)


def is_made(tables: CurrentTables, asset: str, shard: str) -> bool:
    """Tell whether a table is there, made of what it should be."""
    try:
        tables.read(asset, shard, ["key"])
    except (NotFoundError, StaleError):
        return False
    return True
