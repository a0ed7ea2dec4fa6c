"""How many samples went in, were dropped for which reason, and came out."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.filters.expression import VALUE_MISSING, Filter
from curation.selection import count_reasons

TRUE = "true"  # the filter of a recipe that has none


@dataclass(frozen=True)
class Funnel:
    """Counts over the selections of some shards."""

    samples: int
    kept: int
    reasons: dict[str, int]
    """Reason to the number of samples that it applies to, most frequent first. A sample
    with two reasons counts for both; all that were quarantined have one reason. Last come
    the conditions of the filter that dropped nothing."""

    @property
    def overlaps(self) -> bool:
        """Whether a sample counts for more than one reason."""
        return sum(self.reasons.values()) > self.dropped

    @property
    def dropped(self) -> int:
        """Samples that aren't kept."""
        return self.samples - self.kept


def count_funnel(selections: Iterable[pa.Table], filter_: Filter | None = None) -> Funnel:
    """Count the selections of some shards.

    Args:
        selections: ``SELECTION`` tables of ``tables.py``, one per shard.
        filter_: Which decided, so that conditions which dropped nothing are counted too.
    """
    tables = list(selections)
    kept = sum(pc.sum(table["kept"]).as_py() or 0 for table in tables)
    reasons = count_reasons(tables)
    for part in filter_.conjuncts if filter_ else ():
        if part.text != TRUE and not {part.text, part.text + VALUE_MISSING} & {*reasons}:
            reasons[part.text] = 0
    return Funnel(sum(table.num_rows for table in tables), kept, reasons)
