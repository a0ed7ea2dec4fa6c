"""Make a release from a terminal or on a schedule: the same asset, instance and records."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import dagster as dg

from curation.errors import StaleError
from curation.recipe import Recipe
from curation.release.manifest import Manifest, list_releases
from curation.release.publish import ReleaseOptions
from curation.release.takedown import Takedown, take_down
from curation.storage import Storage, open_storage
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards
from curation_assets.release import (
    RELEASE,
    RELEASE_STEP,
    last_of,
    release_metadata,
    release_version,
)
from curation_assets.run_tags import launch_tags
from jobs.asset_definitions import asset_definitions
from jobs.curate import run_error
from jobs.instance import open_instance, set_shards
from jobs.plan import make_plan
from resources.progress import Progress

MOST_NAMED = 5  # shards that a message lists


def make_release(
    recipe: Recipe,
    progress: Progress,
    *,
    name: str | None = None,
    anew: bool = False,
    as_is: bool = False,
    instance: dg.DagsterInstance | None = None,
) -> Manifest | None:
    """Publish the filtered shards as the next release.

    Args:
        recipe: Whose shards, and how they are packed.
        progress: Who is told.
        name: By default the next number.
        anew: Pack all tars anew.
        as_is: Release what there is, even if some shards are not up to date.
        instance: Holds the records; by default the recipe's own.

    Returns:
        What was published; None if the last release has it all.

    Raises:
        StaleError: Some filtered shards are not up to date, and ``as_is`` is not set.
        CurationError: As :func:`curation.release.publish.publish_release`.
    """
    output = open_storage(recipe.output, recipe.s3)
    tars = list_shards(open_storage(recipe.source, recipe.s3))
    lineage = Lineage(recipe)
    with nullcontext(instance) if instance else open_instance(recipe) as instance:
        set_shards(instance, tars)
        files = {file.path for file in output.list_files()}
        due = make_plan(instance, lineage, tars, files).due["filtered_shard"]
        if not as_is:
            _check_up_to_date(due)
        before = {manifest.name for manifest in list_releases(output)}
        _run(recipe, progress, instance, {"name": name, "anew": anew})
        made = last_of(output, lineage)
    return None if made.name in before else made


def make_takedown(
    recipe: Recipe,
    progress: Progress,
    lines: list[str],
    *,
    name: str | None = None,
    instance: dg.DagsterInstance | None = None,
) -> Takedown:
    """Publish the last release without some samples, and record that in Dagster.

    Args:
        recipe: Whose last release is meant.
        progress: Who is told.
        lines: Keys, as :func:`curation.release.takedown.take_down` takes them.
        name: Of the release that is made; by default the next number.
        instance: Holds the records; by default the recipe's own.

    Raises:
        CurationError: As :func:`curation.release.takedown.take_down`.
    """
    output = open_storage(recipe.output, recipe.s3)
    options = ReleaseOptions(
        name=name,
        started=lambda num_tars: progress.start(RELEASE, num_tars),
        finished=lambda shard: progress.advance(shard.files[0].path, shard.num_samples),
    )
    done = take_down(output, recipe, lines, options)
    with nullcontext(instance) if instance else open_instance(recipe) as instance:
        instance.report_runless_asset_event(_event(output, done.release))
    return done


def _event(output: Storage, manifest: Manifest) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        RELEASE,
        metadata=release_metadata(output, manifest),
        tags={"dagster/data_version": release_version(manifest)},
    )


def _check_up_to_date(due: Mapping[str, str]) -> None:
    """Refuse to release what is to be made anew.

    Raises:
        StaleError: There is some; the message names the first ones.
    """
    if not due:
        return
    first = sorted(due.items())[:MOST_NAMED]
    listed = "".join(f"\n  {shard}: {cause}" for shard, cause in first)
    more = f"\n  … {len(due) - len(first)} more" if len(due) > len(first) else ""
    raise StaleError(
        f"{len(due)} filtered shard(s) are not up to date; run `curate run` first, or "
        f"release what there is with --as-is:{listed}{more}"
    )


def _run(
    recipe: Recipe,
    progress: Progress,
    instance: dg.DagsterInstance,
    config: Mapping[str, Any],
) -> None:
    definitions = asset_definitions(recipe, progress=progress)
    done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(RELEASE)],
        tags=launch_tags(Lineage(recipe)),
        run_config={
            "ops": {RELEASE_STEP: {"config": dict(config)}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )
    if not done.success:
        raise run_error(done)
