"""All shards at once: which samples are copies, and which of each group stays.

Its data version says by which rule, not of which shards: shards come and go, and a new
version would make the selection of every shard stale. What it was made of is in its
metadata, :func:`groups_made_of` says what it should be made of, and the shards whose
duplicates did change are recorded as new versions of ``duplicates``, from here.
"""

from collections.abc import Mapping

import dagster as dg

from curation.fingerprint import fingerprint
from curation_assets.lineage import Lineage

MADE_OF = "made_of"


def groups_made_of(lineage: Lineage, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """Hash what the groups are made of.

    Args:
        lineage: For the settings and the names of the inputs.
        inputs: For each input, the data version of each shard that takes part.
    """
    rule = lineage.code_version("duplicate_groups")
    known = {name: dict(inputs[name]) for name in lineage.inputs("duplicate_groups")}
    return fingerprint("duplicate_groups", rule, known)


def recorded_groups(instance: dg.DagsterInstance) -> str | None:
    """Look up what the groups were last made of; None if they never were."""
    event = instance.get_latest_materialization_event(dg.AssetKey("duplicate_groups"))
    if event is None or event.asset_materialization is None:
        return None
    made_of = event.asset_materialization.metadata.get(MADE_OF)
    return str(made_of.value) if made_of else None
