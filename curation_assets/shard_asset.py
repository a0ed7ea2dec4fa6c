"""How an asset works through many shards in one run, each recorded as it finishes.

Dagster records a range run as one result at its end: a crash at shard 49 of 50 would lose
48, and all 50 would share one data version. So an asset here is a generator that yields an
event of its own per shard, with that shard's data version and provenance, and ends with a
result whose own events are suppressed. What this rests on is pinned by
``tests/curation_assets/test_shard_asset.py``.

Belongs here: the pattern. What an asset reads and writes belongs in its own file.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypedDict

import dagster as dg

# Dagster's own way to satisfy an asset's output without recording it; private, hence the
# exact pin on Dagster's minor version and the test named above.
from dagster._core.definitions.source_asset import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as SUPPRESS_EVENT,
)
from dagster._core.event_api import AssetRecordsFilter
from dagster._core.events import DagsterEventType

from curation.errors import CurationError, InputError, NotFoundError, PathError, TableError
from curation.fingerprint import Json
from curation.storage import Storage
from curation.tables import made_of_something_else, read_about
from curation_assets.failures import raise_for_shards, run_failures
from curation_assets.file_sizes import record_sizes
from curation_assets.lineage import GLOBAL_ASSETS, IMPORT_ASSETS, Lineage
from curation_assets.ownership import check_owner
from curation_assets.partitions import SHARDS
from curation_assets.recipe_guard import recipe_tags, refuse_another_recipe
from curation_assets.records_owner import records_since
from resources.progress import Progress

DATA_VERSION = "dagster/data_version"
CODE_VERSION = "dagster/code_version"
SETTINGS = "settings"
"""Metadata entry: what the recipe said of the asset when it was made."""

Metadata = Mapping[str, Any]
Made = tuple["ShardTask", Metadata | CurationError]
MakeAll = Callable[[Sequence["ShardTask"]], Iterator[Made]]
AssetEvents = Iterator[dg.AssetMaterialization | dg.MaterializeResult[None]]


@dataclass(frozen=True)
class ShardTask:
    """One shard of one asset, to be made."""

    shard: str
    fingerprint: str
    """What the artifact is made from: its data version."""
    inputs: Mapping[str, str]
    """The data version of each input."""
    event_pointer: int
    """Storage id of the newest event when the inputs were looked up."""
    code_version: str
    """Of the step that makes it, with its settings."""
    settings: Mapping[str, Json] = field(default_factory=dict)
    """What the recipe says of the step; recorded, so that a change can be told."""
    problem: CurationError | None = None
    """Why it can't be made: an input's file is not the one that is on record."""
    output: Storage | None = None
    """Where its files are; None if their sizes are not to be recorded."""
    files: tuple[str, ...] = ()
    """The paths of its files."""


class ShardAssetOptions(TypedDict):
    """What all assets that are made per shard have in common."""

    name: str
    deps: Sequence[str | dg.AssetDep]
    partitions_def: dg.PartitionsDefinition[str]
    backfill_policy: dg.BackfillPolicy
    code_version: str
    op_tags: Mapping[str, str]


def shard_asset_options(lineage: Lineage, name: str) -> ShardAssetOptions:
    """Give what the per-shard asset ``name`` shares with all others of its kind."""
    return {
        "name": name,
        "deps": [_edge(input_) for input_ in lineage.inputs(name)],
        "partitions_def": SHARDS,
        "backfill_policy": dg.BackfillPolicy.multi_run(
            lineage.recipe.machine.shards_per_run
        ),
        "code_version": lineage.code_version(name),
        "op_tags": recipe_tags(lineage),
    }


def _edge(asset: str) -> str | dg.AssetDep:
    """Give the edge from an input, of which imports have other partitions than shards.

    None of theirs is said to be upstream: that a shard is one of `laion` alone could be
    told only by a mapping of our own, which Dagster's UI and daemon don't take; by any
    other, a list that changed would make the shards of all lists stale. What an import
    changes shows in the versions of its tars, and a shard's event names its import's.
    """
    if asset not in IMPORT_ASSETS:
        return asset
    nothing = dg.SpecificPartitionsPartitionMapping([])
    return dg.AssetDep(asset, partition_mapping=nothing)


def record_shards(
    context: dg.AssetExecutionContext,
    progress: Progress,
    tasks: Sequence[ShardTask],
    make: MakeAll,
    find: Callable[[ShardTask], Metadata | None],
) -> AssetEvents:
    """Make every shard of the run that isn't there yet, and record each as it finishes.

    A shard that fails costs itself: the others are made and recorded, then the step fails
    and names it.

    Args:
        context: Of the asset, whose partitions are shards.
        progress: Is told of every shard.
        tasks: The shards to record, as :func:`shard_tasks` gives them.
        make: Makes shards, in any order, and gives each one's metadata or its error.
        find: Gives the metadata of an artifact that is there and has the task's
            fingerprint already, else None.
    """
    asset = context.asset_key.to_user_string()
    failures: dict[str, CurationError] = {}
    todo = []
    with run_failures():
        for task in tasks:
            if (metadata := _found(find, task)) is None:
                todo.append(task)
            else:
                _record_sizes(context, asset, task)
                yield partition_event(asset, task, {**metadata, "cached": True})
        progress.start(asset, len(todo))
        refused = [(task, task.problem) for task in todo if task.problem]
        sound = [task for task in todo if not task.problem]
        for task, made in chain(refused, make(sound)):
            if isinstance(made, InputError) and not isinstance(made, PathError):
                raise made  # a wrong setting is wrong for every shard
            if isinstance(made, CurationError):
                failures[task.shard] = made
                progress.fail(task.shard, str(made))
            else:
                _record_sizes(context, asset, task)
                yield partition_event(asset, task, made)
                progress.advance(task.shard, int(made.get("samples", 0)))
        raise_for_shards(failures)
        refuse_deleted_ends(context, context.assets_def.partitions_def)
    yield all_recorded()


def _found(
    find: Callable[[ShardTask], Metadata | None], task: ShardTask
) -> Metadata | None:
    """Find what is there; what is damaged is made again."""
    try:
        return find(task)
    except TableError:
        return None


def _record_sizes(context: dg.AssetExecutionContext, asset: str, task: ShardTask) -> None:
    if task.output and task.files:
        record_sizes(context.instance, asset, task.shard, task.output, task.files)


def all_recorded() -> dg.MaterializeResult[None]:
    """End a step that recorded its partitions itself: this result makes no event."""
    return dg.MaterializeResult(metadata={SUPPRESS_EVENT: True})


def one_by_one(make: Callable[[ShardTask], Metadata]) -> MakeAll:
    """Make shards in turn with a function that makes one; add how long each took."""

    def make_all(tasks: Sequence[ShardTask]) -> Iterator[Made]:
        for task in tasks:
            start = time.perf_counter()
            try:
                metadata = make(task)
            except CurationError as error:
                yield task, error
            else:
                yield task, {**metadata, "seconds": time.perf_counter() - start}

    return make_all


def is_current(storage: Storage, path: str, task: ShardTask) -> bool:
    """Tell whether a table is there and was made from what the task says."""
    return made_from(storage, path) == task.fingerprint


def made_from(storage: Storage, path: str) -> str | None:
    """Give the fingerprint of a table; None if it isn't there, or is damaged."""
    try:
        return read_about(storage, path).get("fingerprint")
    except (NotFoundError, TableError):
        return None


def shard_tasks(
    context: dg.AssetExecutionContext, lineage: Lineage, output: Storage
) -> list[ShardTask]:
    """Work out what the run's shards are to be made from.

    Shards that this run, or the run that it retries, recorded already are left out. Where
    the file of an input is not the one on record, the task says so.

    Raises:
        InputError: Another recipe of this name writes to the output.
        dagster.Failure: An input of a shard was never made, or the range is empty.
    """
    asset = context.asset_key.to_user_string()
    shards = shards_to_record(context)
    # before the inputs are read: what is recorded of them from now on is news
    pointer = newest_event(context.instance)
    versions = {
        name: _versions(context.instance, name, shards) for name in lineage.inputs(asset)
    }
    for name, found in versions.items():
        absent = [shard for shard in shards if shard not in found]
        if absent:
            raise dg.Failure(
                f"{asset} needs {name}, which was not made yet for {len(absent)} shard(s), "
                f"the first being {absent[0]}; materialize {name} first",
                allow_retries=False,
            )
    inputs = {shard: {n: found[shard] for n, found in versions.items()} for shard in shards}
    code_version = lineage.code_version(asset)
    with run_failures():
        check_owner(context.instance, output, lineage)
        problems = _other_files(context.instance, output, lineage, asset, versions)
    return [
        ShardTask(
            shard,
            lineage.expected(asset, inputs[shard]),
            inputs[shard],
            pointer,
            code_version,
            lineage.recipe_settings(asset),
            problems.get(shard),
            output,
            lineage.artifacts.of(asset, shard),
        )
        for shard in shards
    ]


def _other_files(
    instance: dg.DagsterInstance,
    output: Storage,
    lineage: Lineage,
    asset: str,
    versions: Mapping[str, Mapping[str, str]],
) -> dict[str, CurationError]:
    """Find the shards of which a file that is to be read is not the one on record."""
    found: dict[str, CurationError] = {}
    shards = list(next(iter(versions.values()), ()))
    for name in lineage.reads(asset):
        known = versions.get(name) or recorded_versions(instance, name, shards)
        for shard, version in known.items():
            paths = lineage.artifacts.of(name, shard)
            if paths and made_from(output, paths[-1]) not in (None, version):
                found[shard] = made_of_something_else(output, paths[-1])
    return found


def shards_to_record(context: dg.AssetExecutionContext) -> list[str]:
    """Give the run's shards, but for those that it, or the run it retries, recorded.

    Raises:
        dagster.Failure: The range is empty or has an end no more, or the recipe was edited
            after the launch.
    """
    refuse_another_recipe(context)
    refuse_deleted_ends(context, context.assets_def.partitions_def)
    if not context.partition_keys:
        raise dg.Failure(
            "the run's range of shards is empty: its first key comes after its last in the "
            "order in which the partitions were added; swap them",
            allow_retries=False,
        )
    recorded = _recorded_by_this_run(context)
    return [shard for shard in context.partition_keys if shard not in recorded]


def refuse_deleted_ends(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    partitions: dg.PartitionsDefinition[str] | None,
) -> None:
    """Fail if the first or the last key of the run's range is no partition any more.

    Of a range without its ends Dagster knows no keys, neither when a step begins nor when
    it ends. A key between them that is deleted is passed over by the steps that follow.

    Raises:
        dagster.Failure: It was deleted; the message says what to do.
    """
    if not isinstance(partitions, dg.DynamicPartitionsDefinition):
        return  # no others can be deleted
    ends = context.partition_key_range
    for key in (ends.start, ends.end):
        if not context.instance.has_dynamic_partition(partitions.name or "", key):
            raise dg.Failure(
                f"{key}, an end of this run's range of partitions, was deleted while the "
                "run was under way, and Dagster does not know the range without it. What "
                "was made is recorded; launch a run over the partitions that are left",
                allow_retries=False,
            )


def newest_event(instance: dg.DagsterInstance) -> int:
    """Give the storage id of the newest event, as a pointer for provenance."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def recorded_versions(
    instance: dg.DagsterInstance, asset: str, shards: Sequence[str] | None = None
) -> dict[str, str]:
    """Look up the data version last recorded for each shard of an asset, in one query.

    What was recorded of another recipe, before this one had the records, is left out.
    """
    key, made = dg.AssetKey(asset), DagsterEventType.ASSET_MATERIALIZATION
    storage = instance.event_log_storage
    tags = storage.get_latest_tags_by_partition(
        key,
        made,
        [DATA_VERSION],
        asset_partitions=list(shards) if shards is not None else None,
    )
    versions = {shard: found[DATA_VERSION] for shard, found in tags.items()}
    if since := records_since(instance):
        own = storage.get_latest_storage_id_by_partition(key, made, after_cursor=since)
        return {shard: version for shard, version in versions.items() if shard in own}
    return versions


def last_recorded(
    instance: dg.DagsterInstance, asset: str, shard: str | None = None
) -> tuple[str, Mapping[str, Json]]:
    """Look up the code version and the settings that an asset was last made with.

    Args:
        instance: Holds the records.
        asset: Its name.
        shard: Of which shard, if the asset is made per shard.

    Returns:
        Both empty where it was never made, or nothing was recorded of them.
    """
    event = last_materialization(instance, asset, shard)
    if event is None:
        return "", {}
    entry = event.metadata.get(SETTINGS)
    settings: Any = entry.value if entry else {}
    return (event.tags or {}).get(CODE_VERSION, ""), settings


def last_materialization(
    instance: dg.DagsterInstance, asset: str, partition: str | None = None
) -> dg.AssetMaterialization | None:
    """Look up the newest event of an asset, or of one of its partitions.

    None where there is none of the recipe that has the records now.
    """
    found = instance.fetch_materializations(
        AssetRecordsFilter(
            dg.AssetKey(asset), asset_partitions=None if partition is None else [partition]
        ),
        limit=1,
    )
    own = [r for r in found.records if r.storage_id > records_since(instance)]
    return own[0].asset_materialization if own else None


def recorded_version(instance: dg.DagsterInstance, asset: str) -> str | None:
    """Look up the data version that an asset over all shards last had."""
    made = last_materialization(instance, asset)
    return (made.tags or {}).get(DATA_VERSION) if made else None


def _versions(
    instance: dg.DagsterInstance, asset: str, shards: Sequence[str]
) -> dict[str, str]:
    """Look up the version of an input for each shard; one over all shards has one."""
    if asset not in GLOBAL_ASSETS:
        return recorded_versions(instance, asset, shards)
    version = recorded_version(instance, asset)
    return dict.fromkeys(shards, version) if version else {}


def _recorded_by_this_run(context: dg.AssetExecutionContext) -> set[str]:
    """Find the shards that this run, or the run that it retries, recorded already."""
    run = context.run
    family = {run.run_id, run.parent_run_id, run.root_run_id}
    if run.parent_run_id is None and context.retry_number == 0:
        return set()
    found = context.instance.fetch_materializations(
        AssetRecordsFilter(
            context.asset_key, asset_partitions=list(context.partition_keys)
        ),
        limit=10 * len(context.partition_keys),
    )
    return {
        record.partition_key
        for record in found.records
        if record.run_id in family and record.partition_key is not None
    }


def partition_event(
    asset: str, task: ShardTask, metadata: Metadata
) -> dg.AssetMaterialization:
    """Record one shard of an asset with its own version and what it was made from.

    Staleness compares an input's newest event after the pointer with its newest up to it.
    """
    provenance = {
        DATA_VERSION: task.fingerprint,
        "dagster/data_version_is_user_provided": "true",
        CODE_VERSION: task.code_version,
    }
    for name, version in task.inputs.items():
        provenance[f"dagster/input_data_version/{name}"] = version
        provenance[f"dagster/input_event_pointer/{name}"] = str(task.event_pointer)
    settings = {SETTINGS: dg.MetadataValue.json(dict(task.settings))}
    return dg.AssetMaterialization(
        asset,
        partition=task.shard,
        metadata={**metadata, **(settings if task.settings else {})},
        tags=provenance,
    )
