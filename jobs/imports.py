"""Imports that are due, and bringing them: what comes before there are shards.

An import is due when its input is new, its list or its folder changed, or a setting did;
when it was never finished, or tars of it are gone. URLs that failed make none due: most of
them are gone for good, so that they are fetched again when a person asks for it.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import dagster as dg

from curation.errors import InputError, NotFoundError
from curation.recipe import Recipe
from curation.storage import open_storage
from curation_assets.imported_urls import failed_urls
from curation_assets.imports import (
    NUM_TARS,
    import_folder,
    input_settings,
    input_version,
    recorded_number,
)
from curation_assets.lineage import IMPORT_ASSETS, Lineage
from curation_assets.partitions import SUFFIX
from curation_assets.shard_asset import last_recorded, recorded_versions
from jobs.asset_jobs import IMPORT_JOBS
from jobs.attempts import PARTITION, RANGE_START
from jobs.changes import changed_code, changed_settings
from jobs.curate import CurateResult, open_runner
from jobs.instance import open_instance
from jobs.next_runs import NextRun
from jobs.plan import NEW
from jobs.recipe_check import check_ready, check_recipe
from resources.progress import Progress

INPUT_CHANGED = "its list or its folder changed"


@dataclass(frozen=True)
class DueImport:
    """An input whose shards are to be brought."""

    asset: str
    name: str
    cause: str
    version: str | None
    """Data version that it will have; None for an input that can't be looked at."""
    recorded: str | None
    """Data version that it has."""


def due_imports(instance: dg.DagsterInstance, lineage: Lineage) -> list[DueImport]:
    """Compare what there is to import with what was imported.

    An input that can't be looked at is due too: its run fails and says why, and those of
    the others don't.

    Raises:
        StorageError: An input can't be reached.
    """
    due = []
    for asset in lineage.imports:
        recorded = recorded_versions(instance, asset)
        for name in lineage.import_inputs(asset):
            before = recorded.get(name)
            version, cause = _now(lineage, asset, name)
            if version is not None:
                look = _gone if version == before else _changed
                cause = look(instance, lineage, asset, name)
            if cause:
                due.append(DueImport(asset, name, cause, version, before))
    return due


_SOON_AFTER = ("embeddings", "caption_embeddings")
"""What is made of imported shards without anything that people would make in between."""


def bring_imports(
    recipe: Recipe,
    progress: Progress,
    *,
    retry_urls: bool = False,
    instance: dg.DagsterInstance | None = None,
) -> CurateResult:
    """Import what is due. An import that fails costs itself alone.

    Args:
        recipe: Whose inputs. One that names none costs nothing.
        progress: Who is told.
        retry_urls: Also import those lists again of which URLs failed.
        instance: Holds the records; by default the recipe's own.

    Raises:
        InputError: Something that a person must change stands in the way, or an import
            failed and there are no shards at all.
        StorageError: An input can't be reached.
    """
    lineage = Lineage(recipe)
    if not lineage.imports:
        return CurateResult()
    check_recipe(recipe)
    with nullcontext(instance) if instance else open_instance(recipe) as instance:
        wanted = {(due.asset, due.name) for due in due_imports(instance, lineage)}
        if retry_urls:
            names = lineage.recipe.imports.urls
            wanted |= {("imported_urls", n) for n in names if failed_urls(instance, n)}
        if not wanted:
            return CurateResult()
        check_ready(recipe, _SOON_AFTER)  # rather than after hours of downloads
        with open_runner(recipe, progress, instance) as runner:
            for asset, name in sorted(wanted):
                runner.execute(NextRun((asset,), (name,)))
    source = open_storage(recipe.source, recipe.s3)
    if runner.result.failed and not source.list_files(suffix=SUFFIX):
        told = "".join(f"\n  {n}: {why}" for n, why in runner.result.failed.items())
        raise InputError(f"{recipe.source}: nothing could be imported:{told}")
    return runner.result


def imported_by(run: dg.DagsterRun) -> str | None:
    """Name the input that a run imports; None if it is another run."""
    assets = {key.to_user_string() for key in run.asset_selection or ()}
    if run.job_name in IMPORT_JOBS.values() or not assets.isdisjoint(IMPORT_ASSETS):
        return run.tags.get(PARTITION) or run.tags.get(RANGE_START)
    return None


def _now(lineage: Lineage, asset: str, name: str) -> tuple[str | None, str | None]:
    """Give the version of an input, or why it can't be looked at."""
    try:
        return input_version(lineage, asset, name), None
    except (InputError, NotFoundError) as error:
        return None, str(error)


def _changed(instance: dg.DagsterInstance, lineage: Lineage, asset: str, name: str) -> str:
    """Say why an input is to be imported that can be looked at."""
    code_version, before = last_recorded(instance, asset, name)
    if not code_version:
        return NEW
    if code := changed_code(code_version, lineage.code_version(asset)):
        return code
    told = changed_settings(before, input_settings(lineage, asset, name))
    return "; ".join(told) or INPUT_CHANGED


def _gone(
    instance: dg.DagsterInstance, lineage: Lineage, asset: str, name: str
) -> str | None:
    """Say that tars of an import that is current are gone; None if they are there."""
    recorded = recorded_number(instance, asset, name, NUM_TARS)
    found = len(import_folder(lineage.recipe, name).list_files(suffix=SUFFIX))
    gone = recorded - found
    return f"{gone} of its {recorded} tars are gone" if gone > 0 else None
