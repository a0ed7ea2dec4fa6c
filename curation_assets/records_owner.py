"""Which recipe an instance's records are of: two in one instance would undo each other.

Dagster's records are by asset and shard, and know nothing of recipes. Two recipes that
share a ``DAGSTER_HOME`` take each other's partitions and records for their own. So whose
they are is on record in the instance, and told by name before anything is changed.
"""

import json

import dagster as dg

from curation.errors import InputError
from curation.recipe import Recipe

_KEY = "curation/recipe"


def check_records(instance: dg.DagsterInstance, name: str) -> None:
    """Refuse to go on by records of a recipe of another name; nobody's are as one's own.

    An output of another path is no other recipe: it may have been moved, or be mounted
    elsewhere on this machine.

    Raises:
        InputError: They are of another; the message names it, and says what to do.
    """
    owner = _owner(instance)
    if owner and owner["name"] != name:
        raise InputError(
            f"the records of this Dagster instance are of {_named(owner)}, and not of the "
            f"recipe {name}. {_ADVICE}. If {name} is to take the records over, do so by "
            "`curate run` with its recipe"
        )


def take_records(instance: dg.DagsterInstance, recipe: Recipe) -> str | None:
    """Make the records a recipe's own.

    What another's runs put on record counts no more: what is there is found by its
    fingerprint, and recorded anew.

    Returns:
        What is to be told; None if they were its own, or nobody's.
    """
    owner, since = _owner(instance), records_since(instance)
    is_another = owner is not None and owner["name"] != recipe.name
    if is_another:
        since = instance.event_log_storage.get_maximum_record_id() or 0
    mine = {"name": recipe.name, "output": recipe.output, "since": str(since)}
    if owner != mine:
        instance.daemon_cursor_storage.set_cursor_values({_KEY: json.dumps(mine)})
    if owner is None or not is_another:
        return None
    return (
        f"warning: the records of this Dagster instance were of {_named(owner)}; now they "
        f"are of {_named(mine)}, and partitions are those of its source. No file of the "
        f"other is changed. {_ADVICE}"
    )


_ADVICE = (
    "Give each recipe an instance of its own: unset DAGSTER_HOME, or set it to another "
    "folder; what is made already is found there and not made again"
)


def records_since(instance: dg.DagsterInstance) -> int:
    """Give the storage id after which records are of the recipe that they are of now."""
    return int((_owner(instance) or {}).get("since", 0))


def _owner(instance: dg.DagsterInstance) -> dict[str, str] | None:
    found = instance.daemon_cursor_storage.get_cursor_values({_KEY}).get(_KEY)
    return json.loads(found) if found else None


def _named(owner: dict[str, str]) -> str:
    return f"the recipe {owner['name']} (output {owner['output']})"
