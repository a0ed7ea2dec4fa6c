"""Make a release from a terminal or on a schedule: the same asset, instance and records."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import dagster as dg

from curation.recipe import Recipe
from curation.release.manifest import Manifest, list_releases
from curation.release.publish import ReleaseOptions
from curation.release.takedown import Takedown, take_down
from curation.storage import Storage, open_storage
from curation_assets.lineage import Lineage
from curation_assets.records_owner import check_records
from curation_assets.release import (
    RELEASE,
    RELEASE_STEP,
    last_of,
    release_metadata,
    release_version,
)
from curation_assets.run_tags import launch_tags
from jobs.arrivals import find_arrivals
from jobs.asset_definitions import asset_definitions
from jobs.curate import run_error
from jobs.dead_runs import end_dead_runs, process_tag, signs_of_life
from jobs.instance import open_instance, set_shards
from resources.progress import Progress


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
    with nullcontext(instance) if instance else open_instance(recipe) as instance:
        check_records(instance, recipe.name)
        set_shards(instance, find_arrivals(instance, recipe).versions)
        end_dead_runs(instance)
        before = {manifest.name for manifest in list_releases(output)}
        with signs_of_life(instance):
            config = {"name": name, "anew": anew, "as_is": as_is}
            _run(recipe, progress, instance, config)
        made = last_of(output, Lineage(recipe))
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
        tags=launch_tags(Lineage(recipe)) | process_tag(),
        run_config={
            "ops": {RELEASE_STEP: {"config": dict(config)}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )
    if not done.success:
        raise run_error(done)
