"""Assets over all shards: what they were made of, and what they should be made of now.

Dagster calls no asset stale that has a hundred partitions or more above it, and a version
made of all shards would change with every one that comes. So what such an asset was made
of is in the metadata of its last event, as one hash, and compared by ``jobs/plan.py``.
"""

from collections.abc import Mapping

import dagster as dg

from curation.errors import StorageError
from curation.fingerprint import Json, fingerprint
from curation.processes import SILENCE_SECONDS
from curation_assets.lineage import Lineage
from curation_assets.partitions import SHARDS
from curation_assets.shard_asset import last_materialization, recorded_versions

MADE_OF = "made_of"
"""Metadata entry: hash of the asset's settings and of every shard that took part."""


ONE_AT_A_TIME = ("centroids", "duplicate_groups", "filter_cuts")
"""Steps that write what belongs to no single shard, or to all of them."""


def refuse_company(context: dg.AssetExecutionContext) -> None:
    """Put a step off while another run is in a step that writes the same files.

    A step's start is on record before it looks, so that of two that begin at once neither
    overlooks the other: both are put off, for different times.

    Raises:
        StorageError: Another run is; the same call works when that is done.
    """
    instance = context.instance
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        if run.run_id == context.run.run_id:
            continue
        for step in instance.get_run_step_stats(run.run_id, list(ONE_AT_A_TIME)):
            if step.partial_attempt_start is not None:
                raise StorageError(
                    f"run {run.run_id} is making {step.step_key} at this moment, and of "
                    f"{', '.join(ONE_AT_A_TIME)} one is made at a time; run this again "
                    "when it is done. If its process is gone, that is found out at once on "
                    f"its machine, and on others {SILENCE_SECONDS / 60:.0f} minutes after "
                    "its last sign of life"
                )


_UNDER_WAY = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def all_shard_deps(lineage: Lineage, asset: str) -> list[dg.AssetDep]:
    """Give the inputs of an asset that is made of all shards."""
    mapping = dg.AllPartitionMapping()
    return [dg.AssetDep(n, partition_mapping=mapping) for n in lineage.inputs(asset)]


def made_of(lineage: Lineage, asset: str, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """Hash what an asset is made of.

    Args:
        lineage: For its settings and the names of its inputs.
        asset: Its name.
        inputs: For each input, the data version of each shard that takes part.
    """
    known: Json = {name: dict(inputs[name]) for name in lineage.inputs(asset)}
    return fingerprint(asset, lineage.code_version(asset), known)


def current_inputs(
    instance: dg.DagsterInstance, lineage: Lineage, asset: str
) -> dict[str, dict[str, str]]:
    """Look up the versions of what there is to make it of: shards with every input."""
    partitions = instance.get_dynamic_partitions(SHARDS.name or "")
    recorded = {
        name: recorded_versions(instance, name, partitions)
        for name in lineage.inputs(asset)
    }
    complete = set.intersection(*(set(found) for found in recorded.values()))
    return {
        name: {shard: v for shard, v in found.items() if shard in complete}
        for name, found in recorded.items()
    }


def recorded_made_of(instance: dg.DagsterInstance, asset: str) -> str | None:
    """Look up what an asset was last made of; None if it never was."""
    event = last_materialization(instance, asset)
    found = event.metadata.get(MADE_OF) if event else None
    return str(found.value) if found else None
