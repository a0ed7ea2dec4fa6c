"""What checks found of each shard, on record: so that it is told by whoever asks later.

A check of a run looks at the shards of that run, and Dagster shows the last run's result
alone. So each result also records which shards it looked at, in which version, and what it
found of each. What is known of a shard is the newest result about the version that it has
now; one that was never looked at in that version, since its run was interrupted, is due.

Belongs here: writing and reading that. What a check looks at belongs in ``checks.py``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from curation.fingerprint import fingerprint
from curation_assets.lineage import Lineage
from curation_assets.partitions import SHARDS
from curation_assets.shard_asset import recorded_versions, refuse_deleted_ends

MOST_TOLD = 20  # faults that a result lists
CHECKED = "checked"
"""Metadata entry: shard to the mark of the version that was looked at."""
FOUND = "found"
"""Metadata entry: shard to what is wrong with it."""
RECORDS_AT_ONCE = 100
MARK_DIGITS = 16


@dataclass(frozen=True)
class Check:
    """What holds of the artifacts of an asset."""

    asset: str
    name: str
    promise: str
    """What holds of every shard."""
    advice: str
    """What to do where it doesn't."""
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    bound: str | None = None
    """The setting among the recipe's ``checks`` that it goes by."""
    from_files: bool = False
    """It is told from the files themselves too, by :mod:`curation.troubles`."""

    @property
    def key(self) -> dg.AssetCheckKey:
        """What Dagster knows it by."""
        return dg.AssetCheckKey(dg.AssetKey(self.asset), self.name)

    def marks(self, lineage: Lineage, versions: Mapping[str, str]) -> dict[str, str]:
        """Tell versions of shards apart, shortly; under another bound they are others.

        Args:
            lineage: Has the bound that counts now.
            versions: Of the check's asset, by shard.
        """
        checks = lineage.recipe.checks
        bound = getattr(checks, self.bound) if self.bound else None
        return {s: fingerprint(v, bound)[:MARK_DIGITS] for s, v in versions.items()}


@dataclass
class CheckRecord:
    """What a check found of the shards as they are now."""

    found: dict[str, list[str]] = field(default_factory=dict)
    """Shard to what is wrong with it; only of those with which something is."""
    unchecked: set[str] = field(default_factory=set)
    """Shards that were not looked at in the version that they have."""


def shards_to_check(
    context: dg.AssetCheckExecutionContext, asset: str
) -> tuple[list[str], dict[str, str]]:
    """Give the shards that a check is about, and the version of all that are recorded.

    It is about those of its run or, launched by itself, about all of the latter. Shards
    that are gone from the source are in neither: their artifacts may be gone too.
    """
    recorded = versions_there(context.instance, asset)
    if context.has_partition_key or context.has_partition_key_range:
        refuse_deleted_ends(context, SHARDS)
        # of a run of checks Dagster doesn't always know the set that its range is of
        keys = context.instance.get_dynamic_partitions(SHARDS.name or "")
        ends = context.partition_key_range
        return list(keys[keys.index(ends.start) : keys.index(ends.end) + 1]), recorded
    return list(recorded), recorded


def versions_there(instance: dg.DagsterInstance, asset: str) -> dict[str, str]:
    """Give the recorded version of an asset for each shard at the source, sorted."""
    there = set(instance.get_dynamic_partitions(SHARDS.name or ""))
    versions = recorded_versions(instance, asset)
    return {shard: versions[shard] for shard in sorted(there.intersection(versions))}


def check_result(
    check: Check,
    marks: Mapping[str, str],
    found: Mapping[str, Sequence[str]],
    before: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> dg.AssetCheckResult:
    """Tell what a check found of some shards, then what is known of others.

    Args:
        check: Which check.
        marks: Of the shards that were looked at.
        found: What is wrong with those.
        before: What is wrong with others, by what is on record.
        metadata: What else to record.
    """
    told = [f"{s}: {fault}" for of in (found, before) for s in of for fault in of[s]]
    more = len(told) - MOST_TOLD
    lines = [*told[:MOST_TOLD], *([f"… and {more} more"] if more > 0 else [])]
    text = "\n".join([*lines, f"What to do: {check.advice}"])
    faulty = {shard: list(faults) for shard, faults in found.items() if faults}
    return dg.AssetCheckResult(
        passed=not told,
        severity=check.severity,
        description=text if told else None,
        metadata={
            **metadata,
            "faults": len(told),
            CHECKED: dg.MetadataValue.json(dict(marks)),
            FOUND: dg.MetadataValue.json(faulty),
        },
    )


def found_before(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    check: Check,
    recorded: Mapping[str, str],
    checked: Collection[str],
) -> dict[str, list[str]]:
    """Look up what a check found of the shards that it does not look at now.

    Args:
        instance: Holds the records.
        lineage: Has the bounds that count now.
        check: Which check.
        recorded: The version of its asset, by shard.
        checked: The shards that it looks at now.
    """
    others = {s: v for s, v in recorded.items() if s not in checked}
    return read_record(instance, check.key, check.marks(lineage, others)).found


def read_record(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, marks: Mapping[str, str]
) -> CheckRecord:
    """Look up what a check found of shards, in the versions that they have now.

    Results are read from the newest on, a hundred in one query, until every shard is
    known. Those of before this was recorded tell nothing.

    Args:
        instance: Holds the records.
        key: The check.
        marks: Of every shard that is to be known, its version now.
    """
    record = CheckRecord(unchecked=set(marks))
    for metadata in _results(instance, key, record.unchecked):
        checked, found = (_entry(metadata, name) for name in (CHECKED, FOUND))
        for shard in record.unchecked.intersection(checked):
            if checked[shard] == marks[shard]:
                record.unchecked.remove(shard)
                if faults := found.get(shard):
                    record.found[shard] = faults
    return record


def _results(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, wanted: Collection[str]
) -> Iterator[Mapping[str, Any]]:
    """Give the metadata of a check's results, the newest first, while any is wanted."""
    log, cursor = instance.event_log_storage, None
    while wanted:
        records = log.get_asset_check_execution_history(key, RECORDS_AT_ONCE, cursor)
        for record in records:
            evaluation = record.evaluation if record.status.name in _ENDED else None
            if evaluation is not None:
                yield evaluation.metadata
        if len(records) < RECORDS_AT_ONCE:
            return
        cursor = records[-1].id


_ENDED = ("SUCCEEDED", "FAILED")


def _entry(metadata: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = metadata[name].value if name in metadata else None
    return value if isinstance(value, Mapping) else {}
