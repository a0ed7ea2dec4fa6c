"""What is to be done: the data versions that should be, against those on record.

No cursor and no memory: everything follows from the recipe, the listing of the source and
Dagster's records, so that a plan made twice is the same, and one made after a crash is
right. The command, the sensor, the schedule and ``curate status`` all go by it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import dagster as dg

from curation_assets.global_asset import made_of, recorded_made_of
from curation_assets.lineage import GLOBAL_ASSETS, Lineage
from curation_assets.shard_asset import recorded_version, recorded_versions
from jobs.arrivals import find_arrivals
from jobs.changes import RecipeChanges
from jobs.output_files import output_files

NEW = "new"
DUPLICATES_GONE = "the duplicates of some shards are gone"
STRAYS = "filtered shards are there of {} shard(s) that are gone from the source"
GONE_OR_CHANGED = (
    "its file is gone, or not the one on record, or an input of it was made again"
)

Causes = Mapping[str, str]
"""What is to be made, a shard or an asset, to the reason why."""


@dataclass(frozen=True)
class Plan:
    """What has to be made, and why."""

    due: Mapping[str, Causes]
    """For each asset that is made per shard, the shards to make."""
    global_due: Causes
    """Of the assets that are made of all shards, those to make, and why."""
    wanted: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For each asset and shard, the data version that it should have, if known."""

    @property
    def is_empty(self) -> bool:
        """Whether everything is as it should be."""
        return not self.global_due and not any(self.due.values())


def make_plan(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    shards: Mapping[str, str],
    files: Collection[str],
    strays: Collection[str] = (),
) -> Plan:
    """Compare what should be with what is on record, for every asset and shard.

    Args:
        instance: Holds the records.
        lineage: Says what should be.
        shards: The data version of each shard's tar, in order.
        files: Paths of all that is in the output: what is recorded may have been deleted,
            or overwritten.
        strays: Shards that are gone from the source, and have filtered shards.
    """
    per_shard = [a for a in lineage.assets if a not in GLOBAL_ASSETS]
    on_record = {asset: recorded_versions(instance, asset) for asset in per_shard}
    recorded = {
        asset: _there(versions, lineage, asset, files)
        for asset, versions in on_record.items()
    }
    changes = RecipeChanges(instance, lineage)
    expected = {"raw_shard": dict(shards)}
    expected["duplicates"] = _of(shards, recorded["duplicates"])
    cuts = recorded_version(instance, "filter_cuts")
    expected["filter_cuts"] = dict.fromkeys(shards, cuts) if cuts else {}
    due = {"raw_shard": _raw_causes(expected["raw_shard"], recorded["raw_shard"])}
    due["duplicates"] = {s: NEW for s in shards if s not in recorded["duplicates"]}
    for asset in per_shard:
        if asset not in due:
            expected[asset] = _expected(lineage, asset, expected)
            due[asset] = {
                shard: _cause(changes, asset, shard, on_record, expected, due)
                for shard in shards
                if shard not in recorded[asset]
                or recorded[asset][shard] != expected[asset].get(shard)
            }
    causes = {
        asset: _global_cause(changes, asset, shards, recorded)
        for asset in GLOBAL_ASSETS
        if asset in lineage.assets and shards
    }
    compared = set(shards).intersection(
        *(recorded[name] for name in lineage.inputs("duplicate_groups"))
    )
    if compared.difference(recorded["duplicates"]):
        causes["duplicate_groups"] = causes["duplicate_groups"] or DUPLICATES_GONE
    if strays and shards:  # the step that sets them aside
        causes["duplicate_groups"] = causes["duplicate_groups"] or STRAYS.format(
            len(strays)
        )
    if "filter_cuts" in causes and lineage.artifacts.filter_cuts not in files:
        causes["filter_cuts"] = causes["filter_cuts"] or "its file is gone"
    return Plan(
        {asset: due[asset] for asset in per_shard},
        {asset: cause for asset, cause in causes.items() if cause},
        expected,
    )


def current_plan(instance: dg.DagsterInstance, lineage: Lineage) -> Plan:
    """List the source and the output, and compare what should be with what is."""
    recipe = lineage.recipe
    shards = find_arrivals(instance, recipe).versions
    return make_plan(instance, lineage, shards, output_files(lineage, instance))


def filtered_shards_due(lineage: Lineage, instance: dg.DagsterInstance) -> Causes:
    """Tell which filtered shards are to be made, and why."""
    return current_plan(instance, lineage).due["filtered_shard"]


def _raw_causes(expected: Mapping[str, str], recorded: Mapping[str, str]) -> Causes:
    return {
        shard: "the tar was replaced" if shard in recorded else NEW
        for shard, version in expected.items()
        if recorded.get(shard) != version
    }


def _expected(
    lineage: Lineage, asset: str, expected: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    inputs = {name: expected[name] for name in lineage.inputs(asset)}
    complete = set.intersection(*(set(versions) for versions in inputs.values()))
    return {
        shard: lineage.expected(asset, {n: found[shard] for n, found in inputs.items()})
        for shard in expected["raw_shard"]
        if shard in complete
    }


def _cause(
    changes: RecipeChanges,
    asset: str,
    shard: str,
    on_record: Mapping[str, Mapping[str, str]],
    expected: Mapping[str, Mapping[str, str]],
    due: Mapping[str, Causes],
) -> str:
    """Say why a shard of an asset isn't as it should be."""
    if shard not in on_record[asset]:
        return NEW
    inputs = changes.lineage.inputs(asset)
    if changed := [name for name in inputs if shard in due.get(name, {})]:
        return f"{changed[0]} changes"
    versions = {name: expected[name].get(shard, "") for name in inputs}
    told = changes.since(asset, shard, on_record[asset][shard], versions)
    return told or GONE_OR_CHANGED


def _global_cause(
    changes: RecipeChanges,
    asset: str,
    shards: Collection[str],
    recorded: Mapping[str, Mapping[str, str]],
) -> str | None:
    """Say why an asset over all shards is to be made; None if it is current."""
    lineage = changes.lineage
    inputs = {name: _of(shards, recorded[name]) for name in lineage.inputs(asset)}
    complete = set.intersection(*(set(versions) for versions in inputs.values()))
    whole = {n: {s: v for s, v in f.items() if s in complete} for n, f in inputs.items()}
    found = recorded_made_of(changes.instance, asset)
    if found is None:
        return NEW
    if found != made_of(lineage, asset, whole):
        return changes.since_all(asset) or "shards came, went or changed"
    return None


def _there(
    versions: Mapping[str, str], lineage: Lineage, asset: str, files: Collection[str]
) -> dict[str, str]:
    """Leave out the shards of which a file is gone."""
    paths = lineage.artifacts.of
    return {
        shard: version
        for shard, version in versions.items()
        if all(path in files for path in paths(asset, shard))
    }


def _of(shards: Collection[str], versions: Mapping[str, str]) -> dict[str, str]:
    """Leave out the shards that are no longer at the source."""
    return {shard: version for shard, version in versions.items() if shard in shards}
