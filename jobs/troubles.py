"""All that is wrong now, by shard: the one list that every command goes by.

``curate run``, ``status`` and ``doctor`` tell it alike, whoever made what it is about: it
is read from the files that are there, and from Dagster's records.
"""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from curation.recipe import Recipe
from curation.storage import StoredFile, open_storage
from curation.troubles import Trouble, by_severity, find_troubles
from curation_assets.lineage import Lineage
from jobs.console import result_table

MOST_TOLD = 20  # troubles that a table has; JSON has all
MOST_NAMED = 5  # shards that an advice is for


def current_troubles(recipe: Recipe, tars: Mapping[str, StoredFile]) -> list[Trouble]:
    """Find what is wrong with some shards, the worst first.

    Args:
        recipe: Under which recipe.
        tars: What is at the source, by shard.

    Raises:
        StorageError: A file can't be reached.
    """
    output = open_storage(recipe.output, recipe.s3)
    most = recipe.checks.max_quarantined
    return by_severity(find_troubles(output, Lineage(recipe).artifacts, tars, most))


def any_lost(troubles: Iterable[Trouble]) -> bool:
    """Tell whether samples could not be read: what a command's exit code goes by."""
    return any(trouble.severity == "lost" for trouble in troubles)


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
    notes = [trouble for trouble in troubles if trouble.severity == "note"]
    first = {trouble.advice: trouble.what for trouble in reversed(notes)}
    for advice, names in _by_advice(notes).items():
        such = f"{len(names):,} shards such as {names[0]}" if names[1:] else names[0]
        shown.append(f"note: {such}: {first[advice]}")
    return shown


def _by_advice(troubles: Sequence[Trouble]) -> dict[str, list[str]]:
    """Name the shards that each advice is for."""
    names: dict[str, dict[str, None]] = {}
    for trouble in troubles:
        names.setdefault(trouble.advice, {})[trouble.shard] = None
    return {advice: list(of) for advice, of in names.items()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:MOST_NAMED], *["…"] * (len(names) > MOST_NAMED)])
