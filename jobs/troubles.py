"""All that is wrong now, by shard: the one list that every command goes by.

``curate run``, ``status`` and ``doctor`` tell it alike, whoever made what it is about: it
is read from the files that are there, and from Dagster's records.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import dagster as dg
from rich.table import Table

from curation.recipe import Recipe
from curation.storage import StoredFile, open_storage
from curation.troubles import Severity, Trouble, by_severity, find_troubles
from curation_assets.check_records import read_record, versions_there
from curation_assets.imported_urls import ADVICE, failed_url_faults
from curation_assets.lineage import Lineage
from jobs.console import result_table
from jobs.due_checks import ALL_CHECKS

MOST_TOLD = 20  # troubles that a table has; JSON has all
MOST_NAMED = 5  # shards that an advice is for


def current_troubles(
    recipe: Recipe,
    tars: Mapping[str, StoredFile],
    at_source: Sequence[Trouble],
    instance: dg.DagsterInstance | None = None,
) -> list[Trouble]:
    """Find what is wrong with some shards, and with what they were imported from.

    Args:
        recipe: Under which recipe.
        tars: What is at the source, by shard.
        at_source: What is there that can't be used.
        instance: Holds the records of checks, and of imports; None if there are none.

    Returns:
        The worst first.

    Raises:
        StorageError: A file can't be reached.
    """
    lineage = Lineage(recipe)
    output, most = open_storage(recipe.output, recipe.s3), recipe.checks.max_quarantined
    found = [*at_source, *find_troubles(output, lineage.artifacts, tars, most)]
    if instance is not None:
        found += _found_by_checks(instance, lineage, tars)
        found += _imports(instance, lineage)
    return by_severity(found)


def _found_by_checks(
    instance: dg.DagsterInstance, lineage: Lineage, shards: Collection[str]
) -> Iterator[Trouble]:
    """Tell what checks found that no file tells, of shards as they are now."""
    for check in ALL_CHECKS:
        if check.from_files or check.asset not in lineage.assets:
            continue
        recorded = versions_there(instance, check.asset)
        versions = {shard: v for shard, v in recorded.items() if shard in shards}
        record = read_record(instance, check.key, check.marks(lineage, versions))
        is_error = check.severity == dg.AssetCheckSeverity.ERROR
        severity: Severity = "wrong" if is_error else "warning"
        for shard in sorted(record.found):
            for fault in record.found[shard]:
                yield Trouble(shard, fault, severity, check.advice)


def _imports(instance: dg.DagsterInstance, lineage: Lineage) -> Iterator[Trouble]:
    if "imported_urls" in lineage.imports:
        for name, fault in failed_url_faults(instance, lineage).items():
            yield Trouble(name, fault, "warning", ADVICE)


def any_are(troubles: Iterable[Trouble], severity: Severity) -> bool:
    """Tell whether there are troubles of a severity: what an exit code goes by."""
    return any(trouble.severity == severity for trouble in troubles)


def trouble_tables(troubles: Sequence[Trouble]) -> list[Table | str]:
    """Lay troubles out for people, with what to do; nothing if there are none.

    Those that are lost or warned of have a row each, up to a screenful; notes of one kind
    share a line.
    """
    bad = [trouble for trouble in troubles if trouble.severity != "note"]
    told = bad[:MOST_TOLD]
    rows: list[tuple[str, str, str]] = [(t.shard, t.severity, t.what) for t in told]
    if more := len(bad) - len(told):
        rows.append(("…", "", f"{more:,} more; --json lists all"))
    shown: list[Table | str] = []
    if rows:
        shown.append(result_table("What is wrong now", ("shard", "", "what"), rows))
    for advice, names in _by_advice(told).items():
        shown.append(f"What to do ({_listed(names)}): {advice}")
    notes = folded_notes(troubles)
    return shown + [f"note: {n.shard}: {n.what}; {n.advice}" for n in notes]


def folded_notes(troubles: Iterable[Trouble]) -> list[Trouble]:
    """Make one of all notes with the same advice, which names the first of the shards."""
    notes = [trouble for trouble in troubles if trouble.severity == "note"]
    first = {note.advice: note for note in reversed(notes)}
    return [
        replace(
            first[advice],
            shard=f"{names[0]} and {len(names) - 1:,} more" if names[1:] else names[0],
        )
        for advice, names in _by_advice(notes).items()
    ]


def _by_advice(troubles: Iterable[Trouble]) -> dict[str, list[str]]:
    """Name the shards that each advice is for."""
    names: dict[str, dict[str, None]] = {}
    for trouble in troubles:
        names.setdefault(trouble.advice, {})[trouble.shard] = None
    return {advice: list(of) for advice, of in names.items()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:MOST_NAMED], *["…"] * (len(names) > MOST_NAMED)])
