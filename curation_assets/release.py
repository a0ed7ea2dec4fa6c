"""The kept samples of all shards, packed, renumbered and published as one release.

Not part of what is brought up to date by itself: a release is made when someone asks, by
``curate release``, in the UI, or by the schedule ``weekly_release``. Tars that
``release_shard`` wrote, on however many machines, are found; this asset writes those that
lack, checks that nothing else is there, and publishes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
from pydantic import Field

from curation.errors import NotFoundError, StaleError
from curation.fingerprint import fingerprint
from curation.funnel import count_funnel
from curation.release.manifest import CARD, Manifest, last_release, list_releases
from curation.release.plan import plan_fingerprint
from curation.release.publish import ReleaseOptions, publish_release
from curation.release.shard import ReleaseShard
from curation.storage import Storage
from curation.tables import SELECTION, read_table
from curation_assets.failures import run_failures
from curation_assets.lineage import Lineage
from curation_assets.ownership import check_owner
from curation_assets.partitions import SHARDS
from curation_assets.shard_asset import recorded_versions
from resources.progress import Progress

RELEASE = "release"
RELEASE_STEP = "publish_release"
"""What its config is under in the launchpad."""
VERSION = 1
"""Raised when the step starts to make something else of the same inputs."""

MOST_ROWS = 200
"""Tars listed in the UI; the manifest has all."""
MOST_NAMED = 5
"""Shards that a message lists."""

FindDue = Callable[[dg.DagsterInstance], Mapping[str, str]]
"""Tells which filtered shards are not up to date, each with the reason."""


class ReleaseConfig(dg.Config):
    """What is chosen for one release, in the launchpad or by the command."""

    name: str | None = Field(
        default=None,
        description="What to call it. By default the recipe's name and the next number.",
    )
    anew: bool = Field(
        default=False,
        description="Pack all tars anew, without regard to where earlier releases have "
        "samples.",
    )
    as_is: bool = Field(
        default=False,
        description="Release what there is, even if some filtered shards are not up to "
        "date.",
    )


def release_asset(lineage: Lineage, find_due: FindDue) -> dg.AssetsDefinition:
    """Define ``release`` for a recipe."""
    of_all = dg.AllPartitionMapping()
    spec = dg.AssetSpec(
        RELEASE,
        deps=[
            dg.AssetDep(name, partition_mapping=of_all)
            for name in ("filtered_shard", "release_shard")
        ],
        code_version=release_code_version(lineage),
        group_name="dataset",
        kinds={"webdataset", "dali", "parquet"},
        description="All kept samples in tars of equal size under new keys, with indexes, "
        "tables, checksums, a data card and Croissant metadata. Immutable: what changes "
        "is the next release, which shares unchanged tars with the one before.",
    )

    # not `asset`, whose step would have the name that the job `release` has
    @dg.multi_asset(name=RELEASE_STEP, specs=[spec])
    def release(
        context: dg.AssetExecutionContext,
        config: ReleaseConfig,
        output: dg.ResourceParam[Storage],
        progress: dg.ResourceParam[Progress],
    ) -> dg.MaterializeResult[None]:
        with run_failures():
            shards = releasable_shards(context.instance, find_due, config)
            check_owner(context.instance, output, lineage)
            made = publish_release(
                output,
                lineage.recipe,
                lineage.artifacts.filtered_folder,
                shards,
                replace(
                    chosen_options(context.instance, lineage, output, config, shards),
                    started=lambda num_tars: progress.start(RELEASE, num_tars),
                    finished=lambda shard: progress.advance(
                        shard.files[0].path, shard.num_samples
                    ),
                ),
            )
            if made is None:
                context.log.info("There is nothing new: the last release has all of it.")
            manifest = made or last_of(output, lineage)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(release_version(manifest)),
                metadata=release_metadata(output, manifest),
            )

    return release


def releasable_shards(
    instance: dg.DagsterInstance, find_due: FindDue, config: ReleaseConfig
) -> list[str]:
    """Name the shards that there are filtered shards of, sorted.

    Raises:
        StaleError: Some are not up to date, and ``config.as_is`` is not set.
    """
    if not config.as_is:
        _check_up_to_date(find_due(instance))
    partitions = instance.get_dynamic_partitions(SHARDS.name or "")
    return sorted(recorded_versions(instance, "filtered_shard", partitions))


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
        "release what there is with --as-is (in the launchpad: as_is: true):"
        f"{listed}{more}"
    )


def last_of(output: Storage, lineage: Lineage) -> Manifest:
    """Give the last release of a recipe.

    Raises:
        NotFoundError: There is none yet.
    """
    last = find_last(output, lineage)
    if last is None:
        raise NotFoundError(f"{output.url}: there is no release of this recipe yet")
    return last


def find_last(output: Storage, lineage: Lineage) -> Manifest | None:
    """Read the last release of a recipe; None if there is none yet."""
    series = lineage.recipe.release.name or lineage.recipe.name
    return last_release(list_releases(output), series)


def release_version(manifest: Manifest) -> str:
    """Give the data version of a release: of its tars, not of its name or date."""
    return plan_fingerprint({s.number: s.fingerprint for s in manifest.shards})


def release_metadata(output: Storage, manifest: Manifest) -> dict[str, Any]:
    """Describe a release for the UI: its place, its counts, its card, its tars."""
    card = output.read(f"{manifest.folder}/{CARD}").decode()
    return {
        "name": dg.MetadataValue.text(manifest.name),
        "url": dg.MetadataValue.text(f"{output.url}/{manifest.folder}"),
        "samples": dg.MetadataValue.int(manifest.num_samples),
        "bytes": dg.MetadataValue.int(manifest.num_bytes),
        "tars": dg.MetadataValue.int(len(manifest.shards)),
        "taken_down": dg.MetadataValue.int(manifest.taken_down),
        "card": dg.MetadataValue.md(card.split("---\n", 2)[2]),
        "shards": _shard_table(manifest.shards),
    }


def chosen_options(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    output: Storage,
    config: ReleaseConfig,
    shards: Sequence[str],
) -> ReleaseOptions:
    """Give the options of a release: what was chosen for it, and where it comes from.

    Raises:
        StaleError: A selection is not the one that is on record.
    """
    selected = recorded_versions(instance, "selection", shards)
    tables = (
        read_table(
            output, lineage.artifacts.selection(shard), SELECTION, made_of=selected[shard]
        )
        for shard in shards
    )
    return ReleaseOptions(
        name=config.name,
        anew=config.anew,
        funnel=count_funnel(tables),
        made_of=recorded_versions(instance, "filtered_shard", shards),
    )


def _shard_table(shards: Sequence[ReleaseShard]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "tar": shard.files[0].path,
                "samples": shard.num_samples,
                "bytes": shard.files[0].num_bytes,
                "sha256": shard.files[0].sha256,
            }
        )
        for shard in shards[:MOST_ROWS]
    ]
    columns = {"tar": "string", "samples": "int", "bytes": "int", "sha256": "string"}
    schema = dg.TableSchema([dg.TableColumn(*column) for column in columns.items()])
    return dg.MetadataValue.table(records, schema=schema)


def release_code_version(lineage: Lineage) -> str:
    """Give the code version of what makes a release: the step's, and its settings' hash."""
    settings = lineage.recipe.release.model_dump(mode="json", exclude={"cron"})
    return f"{VERSION}-{fingerprint(settings)[:12]}"
