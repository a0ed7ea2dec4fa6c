"""Groups of copies, put together from what each shard's table of duplicates says.

Belongs here: which samples form a group, and how close two of them are in words. Which
samples are copies is decided in ``curation/dedup``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.dedup.perceptual import HASH_BYTES
from curation.dedup.resolve import EXACT, KINDS, PERCEPTUAL
from curation.tables import DUPLICATES

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Copy:
    """A sample that goes because another one stays for it."""

    shard: str
    key: str
    kind: str
    """``exact``, ``perceptual`` or ``semantic``."""
    similarity: float
    """To the one that stays, as in a table of ``DUPLICATES``."""

    @property
    def closeness(self) -> str:
        """How close it is to the one that stays, in the terms of its kind."""
        if self.kind == KINDS[EXACT]:
            return "identical"  # in bytes or, with `exact: pixels`, in pixels
        if self.kind == KINDS[PERCEPTUAL]:
            num_bits = 8 * HASH_BYTES
            return f"{round((1 - self.similarity) * num_bits)} of {num_bits} bits differ"
        return f"cosine {self.similarity:.4f}"


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """The samples that one sample stays for."""

    shard: str
    """Of the one that stays."""
    key: str
    """Of the one that stays."""
    num_copies: int
    """All that go for it."""
    copies: tuple[Copy, ...]
    """Some or all of them, the least alike first: by kind, then similarity."""


def largest_groups(
    duplicates: Mapping[str, pa.Table], *, most_groups: int, most_copies: int
) -> tuple[list[CopyGroup], int]:
    """Put groups of copies together.

    Args:
        duplicates: Each shard's table of ``DUPLICATES``.
        most_groups: How many to give.
        most_copies: How many copies of each to list.

    Returns:
        The largest groups first, of equal ones the least alike; and how many there are.
    """
    import polars as pl

    survivor, alike = ["survivor_shard", "survivor_key"], ["closeness", "similarity"]
    copies = pl.struct("shard", "key", "kind", "similarity").head(most_copies)
    groups = (
        _rows(duplicates)
        .sort([*alike, "shard", "key"])
        .group_by(survivor, maintain_order=True)
        .agg(pl.len().alias("size"), copies.alias("copies"), pl.col(alike).first())
        .sort(["size", *alike, *survivor], descending=[True] + [False] * 4)
    )
    found = groups.head(most_groups).select(*survivor, "size", "copies").rows()
    return [
        CopyGroup(shard, key, size, tuple(Copy(**copy) for copy in listed))
        for shard, key, size, listed in found
    ], groups.height


def group_of(duplicates: Mapping[str, pa.Table], shard: str, key: str) -> CopyGroup | None:
    """Give the group that a sample belongs to, whole; None if it is alone.

    Args:
        duplicates: Each shard's table of ``DUPLICATES``.
        shard: The sample's.
        key: The sample's, whether it stays or goes.
    """
    import polars as pl

    rows = _rows(duplicates)
    own = rows.filter(pl.col("shard") == shard, pl.col("key") == key)
    if own.height:
        shard, key = own["survivor_shard"][0], own["survivor_key"][0]
    ours = rows.filter(pl.col("survivor_shard") == shard, pl.col("survivor_key") == key)
    if not ours.height:
        return None
    listed = ours.sort("closeness", "similarity", "shard", "key")
    copies = listed.select("shard", "key", "kind", "similarity").to_dicts()
    return CopyGroup(shard, key, len(copies), tuple(Copy(**copy) for copy in copies))


def _rows(duplicates: Mapping[str, pa.Table]) -> "pl.DataFrame":
    """Join tables; ``shard`` is that of each row, and a higher ``closeness`` is closer."""
    import polars as pl

    nothing = pa.schema([*DUPLICATES.columns, ("shard", pa.string())]).empty_table()
    tables = [
        table.append_column("shard", pa.repeat(pa.scalar(shard), table.num_rows))
        for shard, table in duplicates.items()
    ]
    frame = pl.DataFrame(pa.concat_tables([nothing, *tables]))
    closeness = {kind: -number for number, kind in enumerate(KINDS)}
    return frame.with_columns(
        pl.col("kind").replace_strict(closeness, return_dtype=pl.Int8).alias("closeness")
    )
