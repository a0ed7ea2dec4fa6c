"""How many samples went in, were dropped for which reason, and came out."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.selection import count_reasons


@dataclass(frozen=True)
class Funnel:
    """Counts over the selections of some shards."""

    samples: int
    kept: int
    reasons: dict[str, int]
    """Reason to the number of samples that it applies to, most frequent first. A sample
    with two reasons counts for both; all that were quarantined have one reason."""

    @property
    def dropped(self) -> int:
        """Samples that aren't kept."""
        return self.samples - self.kept


def count_funnel(selections: Iterable[pa.Table]) -> Funnel:
    """Count the selections of some shards.

    Args:
        selections: ``SELECTION`` tables of ``tables.py``, one per shard.
    """
    tables = list(selections)
    kept = sum(pc.sum(table["kept"]).as_py() or 0 for table in tables)
    return Funnel(sum(table.num_rows for table in tables), kept, count_reasons(tables))
