"""What of a recipe's artifacts is there, and is what the records say of it.

Belongs here: looking at the output. What follows from it is decided in ``plan.py``.
"""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import dagster as dg

from curation.errors import NotFoundError, TableError
from curation.filtered_folder import find_strays
from curation.storage import Storage, StoredFile, open_storage
from curation.tables import read_about
from curation_assets.file_sizes import recorded_sizes
from curation_assets.lineage import DECISION_ASSETS, IMAGE_ASSETS, Lineage
from curation_assets.ownership import has_other_sources
from curation_assets.shard_asset import recorded_versions
from jobs.arrivals import Arrivals

PARALLEL_READS = 16
LARGER_THAN_EMPTY = 16 << 10
"""Bytes that a tar without members never has; version 0.1.0 wrote such tars."""


def output_files(lineage: Lineage, instance: dg.DagsterInstance | None = None) -> set[str]:
    """List the paths of all that is in a recipe's output.

    Where nothing was kept of a shard, its filtered tar and its index count as there as
    long as they are not. Where records are given, a table that is made of something else
    than they say does not count as there: another recipe wrote it. That takes a look into
    the table of each shard, once a process.

    Args:
        lineage: Of the recipe.
        instance: Holds the records; None goes by names alone.
    """
    recipe = lineage.recipe
    output = open_storage(recipe.output, recipe.s3)
    listed = {file.path: file for file in output.list_files() if file.size}
    files = set(listed)
    for stem in _may_be_empty(listed, f"{lineage.artifacts.filtered_folder}/"):
        if _look(output, listed[f"{stem}.parquet"])[1] == 0:
            files ^= {f"{stem}.tar", f"{stem}.idx"}
    if instance is not None:
        files -= _of_others(instance, lineage, output, listed)
        files -= _of_another_size(instance, lineage, listed)
    return files


def stray_shards(lineage: Lineage, files: Collection[str], arrivals: Arrivals) -> set[str]:
    """Name the shards that have files among the filtered ones, and no tar at the source."""
    folder = lineage.artifacts.filtered_folder
    if not arrivals.tars:
        return set()
    return set(find_strays(files, folder, arrivals.tars, arrivals.unseen))


def _may_be_empty(listed: Mapping[str, StoredFile], folder: str) -> Iterator[str]:
    for path in listed:
        stem, _, suffix = path.rpartition(".")
        if suffix == "parquet" and path.startswith(folder):
            tar = listed.get(f"{stem}.tar")
            if tar is None or tar.size <= LARGER_THAN_EMPTY:
                yield stem


def _of_others(
    instance: dg.DagsterInstance,
    lineage: Lineage,
    output: Storage,
    listed: Mapping[str, StoredFile],
) -> set[str]:
    """Find the tables that are made of something else than is on record.

    Those that are shared with other recipes have their settings in their paths, so that
    they are looked at only where another recipe has another source.
    """
    shared = has_other_sources(output, lineage)
    recorded = {
        lineage.artifacts.of(asset, shard)[-1]: version
        for asset in (*(IMAGE_ASSETS[1:] if shared else ()), *DECISION_ASSETS)
        if asset in lineage.assets
        for shard, version in recorded_versions(instance, asset).items()
    }
    there = [path for path in recorded if path in listed]
    with ThreadPoolExecutor(PARALLEL_READS) as threads:
        found = threads.map(lambda path: _look(output, listed[path])[0], there)
        pairs = zip(there, found, strict=True)
        return {path for path, made_of in pairs if made_of != recorded[path]}


def _of_another_size(
    instance: dg.DagsterInstance, lineage: Lineage, listed: Mapping[str, StoredFile]
) -> set[str]:
    """Find the files that have not as many bytes as when they were recorded."""
    found: set[str] = set()
    for asset in (*IMAGE_ASSETS[1:], *DECISION_ASSETS):
        if asset in lineage.assets:
            shards = recorded_versions(instance, asset)
            sizes = recorded_sizes(instance, asset, shards)
            there = sizes.keys() & listed.keys()
            found |= {path for path in there if sizes[path] != listed[path].size}
    return found


@lru_cache(1 << 17)
def _look(output: Storage, file: StoredFile) -> tuple[str | None, int | None]:
    """Read what a table is made of and how many rows it has, once for each version."""
    try:
        about = read_about(output, file.path)
    except (NotFoundError, TableError):
        return None, None
    return about.get("fingerprint"), about.get("num_rows")
