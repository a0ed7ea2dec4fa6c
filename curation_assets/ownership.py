"""Which recipe of a name an output belongs to: two of one name would undo each other.

What is decided by a recipe lies under its name. Another home of Dagster's, on whatever
machine, has records of its own and can't see that a recipe of the same name, with other
settings, writes to the same place. So who writes is on record in the output itself.
"""

import json
import socket
from datetime import UTC, datetime

import dagster as dg

from curation.errors import InputError, NotFoundError
from curation.fingerprint import Json, fingerprint
from curation.public_urls import without_secrets
from curation.storage import Storage
from curation.texts import load_json
from curation_assets.lineage import Lineage

OWNERS = "recipes"
"""Folder under the output root, with a file for each recipe's name: two recipes
that start at once write no file of each other's."""


def claim_output(instance: dg.DagsterInstance, output: Storage, lineage: Lineage) -> None:
    """Put on record that this recipe, with the records of this instance, writes here.

    Raises:
        InputError: A recipe of this name does, with other settings and other records.
    """
    check_owner(instance, output, lineage)
    path, settings = owner_path(lineage.recipe.name), _settings(lineage)
    if _read(output, path).get("settings") == settings:
        return  # of another instance too: both make the same
    record = {
        **_home(instance),
        "settings": settings,
        "source": lineage.recipe.shown_source,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    output.write(path, json.dumps(record, indent=1, sort_keys=True).encode())


def check_owner(instance: dg.DagsterInstance, output: Storage, lineage: Lineage) -> None:
    """Refuse to go on where another recipe of this name writes. Nothing is written.

    Raises:
        InputError: As :func:`claim_output`.
    """
    name = lineage.recipe.name
    found = _read(output, owner_path(name))
    if not found or found.get("settings") == _settings(lineage):
        return
    here = _home(instance)
    if found.get("records") == here["records"]:
        return
    if all(found.get(key) == here[key] for key in ("home", "host")):
        return  # its records were deleted, to start afresh; there can be no other there
    raise InputError(
        f"name: another recipe called {name} writes to {output.url}, with other settings: "
        f"its source is {found.get('source')}, its records are in {found.get('home')} on "
        f"{found.get('host')}, since {found.get('since')}. Each would overwrite what the "
        "other decided; give one of them another name or another output. If that one is "
        f"no more, delete {output.url}/{owner_path(name)} and run this again"
    )


def has_other_sources(output: Storage, lineage: Lineage) -> bool:
    """Tell whether recipes of other sources write to the output.

    Their shards may have the names of this one's.
    """
    mine = lineage.recipe.shown_source
    records = [_read(output, file.path) for file in output.list_files(OWNERS)]
    # those of before may have its secrets
    return any(without_secrets(record.get("source", mine)) != mine for record in records)


def owner_path(name: str) -> str:
    """Give the path of the record of a recipe's name."""
    return f"{OWNERS}/{name}.json"


def _read(output: Storage, path: str) -> dict[str, str]:
    """Read a record; nothing where there is none, or something else."""
    try:
        found = load_json(output.read(path))
    except (NotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _settings(lineage: Lineage) -> str:
    """Hash all that decides what lies under the recipe's name."""
    versions: Json = {asset: lineage.code_version(asset) for asset in lineage.assets}
    return fingerprint("owner", lineage.recipe.shown_source, versions)[:16]


def _home(instance: dg.DagsterInstance) -> dict[str, str]:
    """Tell one home of records from another, wherever both are, and say where it is."""
    home, host = instance.root_directory, socket.gethostname()
    identify = getattr(instance.run_storage, "get_run_storage_id", None)
    records = str(identify()) if identify is not None else f"{host}:{home}"
    return {"records": records, "home": home, "host": host}
