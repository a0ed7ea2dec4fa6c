"""Which recipe of a name an output belongs to: two of one name would undo each other.

What is decided by a recipe lies under its name. Another home of Dagster's, on whatever
machine, has records of its own and can't see that a recipe of the same name, with other
settings, writes to the same place. So who writes is on record in the output itself.
"""

import json
import os
import socket
from datetime import UTC, datetime

import dagster as dg

from curation.errors import InputError, NotFoundError
from curation.fingerprint import Json, fingerprint
from curation.storage import Storage
from curation_assets.lineage import Lineage

OWNERS = ".recipes.json"
"""Under the output root, hidden: the record of every recipe's name."""


def claim_output(instance: dg.DagsterInstance, output: Storage, lineage: Lineage) -> None:
    """Put on record that this recipe, with the records of this instance, writes here.

    Raises:
        InputError: A recipe of this name does, with other settings and other records.
    """
    check_owner(instance, output, lineage)
    owners, settings = _read(output), _settings(lineage)
    found = owners.get(lineage.recipe.name, {})
    if found.get("settings") == settings:
        return  # of another instance too: both make the same
    owners[lineage.recipe.name] = {
        "records": _records(instance),
        "settings": settings,
        "source": lineage.recipe.source,
        "home": os.environ.get("DAGSTER_HOME", ""),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    output.write(OWNERS, json.dumps(owners, indent=1, sort_keys=True).encode())


def check_owner(instance: dg.DagsterInstance, output: Storage, lineage: Lineage) -> None:
    """Refuse to go on where another recipe of this name writes. Nothing is written.

    Raises:
        InputError: As :func:`claim_output`.
    """
    name = lineage.recipe.name
    found = _read(output).get(name, {})
    if found.get("records") in (None, _records(instance)):
        return
    if found.get("settings") == _settings(lineage):
        return
    raise InputError(
        f"name: another recipe called {name} writes to {output.url}, with other settings: "
        f"its source is {found.get('source')}, its records are in "
        f"{found.get('home') or 'a home of its own'} on {found.get('host')}, since "
        f"{found.get('since')}. Each would overwrite what the other decided; give one of "
        f"them another name or another output. If that one is no more, delete "
        f"{output.url}/{OWNERS} and run this again"
    )


def has_other_sources(output: Storage, lineage: Lineage) -> bool:
    """Tell whether recipes of other sources write to the output.

    Their shards may have the names of this one's.
    """
    mine = lineage.recipe.source
    return any(one.get("source", mine) != mine for one in _read(output).values())


def _read(output: Storage) -> dict[str, dict[str, str]]:
    """Read all records; none where the file is something else."""
    try:
        found = json.loads(output.read(OWNERS))
    except (NotFoundError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)}


def _settings(lineage: Lineage) -> str:
    """Hash all that decides what lies under the recipe's name."""
    versions: Json = {asset: lineage.code_version(asset) for asset in lineage.assets}
    return fingerprint("owner", lineage.recipe.source, versions)[:16]


def _records(instance: dg.DagsterInstance) -> str:
    """Tell one set of records from another, wherever both are."""
    identify = getattr(instance.run_storage, "get_run_storage_id", None)
    if identify is not None:
        return str(identify())
    return f"{socket.gethostname()}:{os.environ.get('DAGSTER_HOME', '')}"
