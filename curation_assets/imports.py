"""What raw shards are imported from: the inputs that the recipe names, each a partition.

The shards of an input lie in a folder of its name under the source, so that a shard's path
tells where it is from. The data version of an import is that of its input: the list's file,
or the listing of the folder, with the settings. What the web answered is no part of it;
what came of that shows in the versions of the tars.

Belongs here: what the assets of imports share. How each brings its shards is in its file.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import CurationError
from curation.fingerprint import Json, fingerprint
from curation.index import build_index
from curation.public_urls import values_without_secrets
from curation.recipe import ImageInput, Recipe, UrlInput
from curation.storage import Storage, StoredFile, open_storage, open_stored_file
from curation.tar import read_members
from curation_assets.failures import run_failures
from curation_assets.lineage import Lineage
from curation_assets.metadata import count_table, picture_sheets
from curation_assets.partitions import SHARDS, SUFFIX, add_partitions
from curation_assets.recipe_guard import recipe_tags
from curation_assets.shard_asset import (
    AssetEvents,
    Metadata,
    ShardTask,
    all_recorded,
    last_materialization,
    partition_event,
    shards_to_record,
)
from resources.progress import Progress

MOST_REASONS = 20  # in a table of why things are missing; others are counted together
_NO_IMAGES = pa.array(["txt", "json"])  # components beside the image
NUM_TARS = "shards"
"""Metadata entry: how many tars the input has."""
NOT_CONTENT = {"concurrency"}
"""Settings that change nothing of what is imported."""


class ImportOptions(TypedDict):
    """What the assets of imports have in common."""

    name: str
    partitions_def: dg.PartitionsDefinition[str]
    backfill_policy: dg.BackfillPolicy
    code_version: str
    op_tags: Mapping[str, str]
    group_name: str


def import_options(lineage: Lineage, name: str) -> ImportOptions:
    """Give what the import asset ``name`` shares with others of its kind."""
    return {
        "name": name,
        "partitions_def": dg.StaticPartitionsDefinition([*lineage.import_inputs(name)]),
        "backfill_policy": dg.BackfillPolicy.multi_run(1),
        "code_version": lineage.code_version(name),
        "op_tags": recipe_tags(lineage),
        "group_name": "images",
    }


def record_imports(
    context: dg.AssetExecutionContext,
    lineage: Lineage,
    progress: Progress,
    bring: Callable[[str, Storage], Metadata],
) -> AssetEvents:
    """Bring the shards of the run's inputs, and record each input when it is done.

    The shards become partitions, so that they can be chosen in the UI at once.

    Args:
        context: Of the asset, whose partitions are inputs.
        lineage: Of the recipe.
        progress: Is told of an input that fails.
        bring: Makes the shards of an input in a folder, and gives the import's metadata.
    """
    asset = context.asset_key.to_user_string()
    with run_failures():
        for name in shards_to_record(context):
            start = time.perf_counter()
            try:
                # before it is read: what changes from now on is news
                version = input_version(lineage, asset, name)
                folder = import_folder(lineage.recipe, name)
                made = {**bring(name, folder), **_brought(context, name, folder)}
            except CurationError as error:
                progress.start(f"{asset} {name}", 1)  # perhaps nothing was begun yet
                progress.fail(name, str(error))
                raise
            task = ShardTask(
                name,
                version,
                inputs={},
                event_pointer=0,
                code_version=lineage.code_version(asset),
                settings=input_settings(lineage, asset, name),
            )
            seconds = time.perf_counter() - start
            yield partition_event(asset, task, {**made, "seconds": seconds})
    yield all_recorded()


def _brought(
    context: dg.AssetExecutionContext, name: str, folder: Storage
) -> dict[str, Any]:
    """Make an input's shards partitions, and describe them for the UI."""
    tars = folder.list_files(suffix=SUFFIX)
    shards = [f"{name}/{tar.path.removesuffix(SUFFIX)}" for tar in tars]
    add_partitions(context.instance, SHARDS, shards)
    pictures = _first_pictures(folder, tars[0]) if tars else {}
    return {NUM_TARS: len(shards), "url": folder.url, **pictures}


def import_folder(recipe: Recipe, name: str) -> Storage:
    """Open the folder that the shards of an input lie in."""
    return open_storage(f"{recipe.source.rstrip('/')}/{name}", recipe.s3)


def input_settings(lineage: Lineage, asset: str, name: str) -> dict[str, Json]:
    """Give what the recipe says of an input, as far as its shards depend on it.

    URLs are without secrets: this goes on record.
    """
    settings = lineage.import_inputs(asset)[name].model_dump(
        mode="json", exclude=NOT_CONTENT
    )
    # came after 0.1.0: where it is off, all is as it was, but for what it refuses
    told = {n: v for n, v in settings.items() if (n, v) != ("follow_links", False)}
    return dict(values_without_secrets(told))  # a list that was signed anew is the same


def input_version(lineage: Lineage, asset: str, name: str) -> str:
    """Give the data version that an import of the input, as it is now, would have.

    Raises:
        InputError, NotFoundError: There is no such input, or it can't be listed.
        StorageError: It can't be reached.
    """
    content = _content(lineage.import_inputs(asset)[name], lineage.recipe)
    settings = input_settings(lineage, asset, name)
    return fingerprint(asset, lineage.code_version(asset), settings, content)


def _content(settings: ImageInput | UrlInput, recipe: Recipe) -> Json:
    if settings.list is not None:
        lists, path = open_stored_file(settings.list, recipe.s3)
        file = lists.stat(path)
        return [file.size, file.version]
    assert isinstance(settings, ImageInput) and settings.folder is not None
    files = open_storage(settings.folder, recipe.s3).list_files()
    return [[file.path, file.size, file.version] for file in files]


def recorded_number(instance: dg.DagsterInstance, asset: str, name: str, entry: str) -> int:
    """Look up a number that was recorded with the last import of an input; else 0."""
    event = last_materialization(instance, asset, name)
    found = event.metadata.get(entry) if event else None
    number: Any = found.value if found else 0
    return int(number)


def reason_table(counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Show the most frequent reasons, and the sum of all others."""
    most = dict(Counter(counts).most_common(MOST_REASONS))
    if others := sum(counts.values()) - sum(most.values()):
        most[f"{len(counts) - len(most)} other reasons"] = others
    return count_table("reason", most)


def _first_pictures(
    folder: Storage, tar: StoredFile
) -> dict[str, dg.MarkdownMetadataValue]:
    files = build_index(read_members(folder, tar.path)).components
    images = files.filter(pc.invert(pc.is_in(files["extension"], _NO_IMAGES)))
    places = images.select(["data_start", "size"])
    places = places.rename_columns(["image_start", "image_bytes"])
    return {"pictures": picture_sheets(folder, tar, {"first images": places})}
