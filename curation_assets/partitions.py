"""What a partition is: one raw shard, named by its path under the source without .tar.

What is released has partitions of its own, the tars of a release.

Belongs here: the partition sets, and which paths can be keys of them.
"""

import re
from collections.abc import Iterable

import dagster as dg
from sqlalchemy.exc import IntegrityError

from curation.errors import InputError
from curation.storage import Storage, StoredFile

SHARDS = dg.DynamicPartitionsDefinition(name="shards")
RELEASE_SHARDS = dg.DynamicPartitionsDefinition(name="release_shards")
"""The tars of the release that is planned, and those of earlier ones: ``00000`` …"""

CLUSTER_BINS = dg.DynamicPartitionsDefinition(name="cluster_bins")
"""Groups of cells that embeddings are compared in, by their numbers."""

ADDED_AT_ONCE = 20_000
"""Partitions: SQLite takes 32,766 values in a statement, Dagster advises 25,000 a tick."""

SUFFIX = ".tar"
MARKER = ".done"
"""Appended to a tar's name, the name of the file that says that the tar is complete."""

# Dagster's UI splits typed keys at commas and reads "..." as a range; "|" separates the
# dimensions of multi-partition keys; control characters break its logs.
_KEY = re.compile(r"[^,|\x00-\x1f\x7f]+")


def list_shards(source: Storage, *, may_be_empty: bool = False) -> dict[str, StoredFile]:
    """List the tars of a source by partition key, sorted.

    Raises:
        InputError: There is no tar, or a tar's path can't be a partition key.
    """
    return _shards_among(source.list_files(suffix=SUFFIX), source, may_be_empty)


def list_marked_shards(
    source: Storage, *, may_be_empty: bool = False
) -> tuple[dict[str, StoredFile], set[str]]:
    """List the tars, and tell of which a marker says that they are complete.

    A tar that was replaced is newer than its marker, by the clock of the storage that both
    lie in, until it is marked anew.

    Returns:
        What :func:`list_shards` does; and those of the keys whose tar has a marker that is
        as new as it is.

    Raises:
        InputError: As :func:`list_shards`.
    """
    files = source.list_files()
    tars = [file for file in files if file.path.endswith(SUFFIX)]
    shards = _shards_among(tars, source, may_be_empty)
    written = {file.path: file.written_ns for file in files}
    marked = {
        shard
        for shard, tar in shards.items()
        if written.get(tar.path + MARKER, -1) >= tar.written_ns
    }
    return shards, marked


def _shards_among(
    tars: Iterable[StoredFile], source: Storage, may_be_empty: bool
) -> dict[str, StoredFile]:
    shards = {tar.path.removesuffix(SUFFIX): tar for tar in tars}
    if not shards and not may_be_empty:
        raise InputError(
            f"{source.url}: there is no .tar file in this folder or below it; set `source` "
            "in the recipe to where the raw shards are"
        )
    check_shard_keys(shards, source.url)
    return shards


def check_shard_keys(shards: Iterable[str], where: str) -> None:
    """Refuse paths that Dagster can't use as partition keys, all in one message.

    Raises:
        InputError: At least one can't.
    """
    bad = [key for key in shards if not _KEY.fullmatch(key) or "..." in key]
    if bad:
        listed = "".join(f"\n  {key + SUFFIX!r}" for key in bad[:20])
        raise InputError(
            f"{where}: {len(bad)} tar(s) have a path that can't be a partition key, for a "
            f"comma, '|', '...' or a control character in it; rename:{listed}"
        )


def add_partitions(
    instance: dg.DagsterInstance,
    partitions: dg.DynamicPartitionsDefinition,
    keys: Iterable[str],
) -> None:
    """Add keys to a partition set, in order; those that it has stay where they are."""
    name = partitions.name or ""
    known = set(instance.get_dynamic_partitions(name))
    new = [key for key in keys if key not in known]
    for first in range(0, len(new), ADDED_AT_ONCE):
        part = new[first : first + ADDED_AT_ONCE]
        try:
            instance.add_dynamic_partitions(name, part)
        except IntegrityError:  # someone else added some meanwhile; this adds the others
            instance.add_dynamic_partitions(name, part)


def set_partitions(
    instance: dg.DagsterInstance,
    partitions: dg.DynamicPartitionsDefinition,
    keys: Iterable[str],
) -> None:
    """Make the keys of a partition set those given: new ones are added in order.

    What is recorded of keys that are gone stays on record; one that comes back is where it
    was, but last in the order.
    """
    name, wanted = partitions.name or "", list(keys)
    for gone in set(instance.get_dynamic_partitions(name)).difference(wanted):
        instance.delete_dynamic_partition(name, gone)
    add_partitions(instance, partitions, wanted)


def input_of(shard: str) -> str:
    """Give the name that an input must have for a shard to be imported from it."""
    return shard.partition("/")[0]


def tar_path(shard: str) -> str:
    """Give the path of a shard's tar under the source."""
    return shard + SUFFIX


def idx_path(shard: str) -> str:
    """Give the path under the source at which a shard's ``.idx`` would be."""
    return f"{shard}.idx"
