"""Which checks were never run on what is recorded: their run was interrupted, say.

A check is a step of the run that makes its asset, after it. Where that run ended early, or
another shard of it failed, shards are recorded that nobody looked at.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import dagster as dg

from curation_assets.check_records import read_record, versions_there
from curation_assets.checks import CHECKS
from curation_assets.lineage import Lineage
from curation_assets.parity_check import PARITY
from curation_assets.partitions import SHARDS
from jobs.attempts import RANGE_END, RANGE_START
from jobs.plan import Causes

ALL_CHECKS = (*CHECKS, PARITY)


@dataclass(frozen=True)
class CheckRun:
    """One run of nothing but checks."""

    checks: frozenset[dg.AssetCheckKey]
    shards: tuple[str, ...]
    """Neighbours in the order of partitions."""

    @property
    def tags(self) -> dict[str, str]:
        """What tells Dagster the range."""
        return {RANGE_START: self.shards[0], RANGE_END: self.shards[-1]}


def due_checks(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    shards: Collection[str],
    due: Mapping[str, Causes],
) -> list[CheckRun]:
    """Find the checks that what is recorded has not had.

    Args:
        instance: Holds the records.
        lineage: Says which assets there are, and has the bounds that checks go by.
        shards: Only these.
        due: For each asset that counts, the shards that are to be made: what will be made
            is checked then.
    """
    wanted: dict[str, set[dg.AssetCheckKey]] = {}
    for check in ALL_CHECKS:
        if check.asset not in due:
            continue
        recorded = versions_there(instance, check.asset)
        made = recorded.keys() & set(shards) - due[check.asset].keys()
        marks = check.marks(lineage, {shard: recorded[shard] for shard in made})
        for shard in read_record(instance, check.key, marks).unchecked:
            wanted.setdefault(shard, set()).add(check.key)
    partitions = instance.get_dynamic_partitions(SHARDS.name or "")
    return list(_runs(wanted, partitions, lineage.recipe.machine.shards_per_run))


def _runs(
    wanted: Mapping[str, set[dg.AssetCheckKey]], partitions: Sequence[str], longest: int
) -> Iterator[CheckRun]:
    """Cut partitions into neighbours that need the same checks."""

    def checks_of(shard: str) -> frozenset[dg.AssetCheckKey]:
        return frozenset(wanted.get(shard, ()))

    for checks, same in groupby(partitions, checks_of):
        stretch = tuple(same) if checks else ()
        for first in range(0, len(stretch), longest):
            yield CheckRun(checks, stretch[first : first + longest])
