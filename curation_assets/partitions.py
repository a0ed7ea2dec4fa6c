"""What a partition is: one raw shard, named by its path under the source without .tar.

What is released has partitions of its own, the tars of a release.

Belongs here: the partition sets, and which paths can be keys of them.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from sqlalchemy.exc import IntegrityError

from curation.errors import InputError, of_setting
from curation.storage import Storage, StoredFile, Unusable
from curation.storage.base import shown_name
from curation.troubles import Severity, Trouble

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

COMPRESSED = (
    *(".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz"),
    *(".tar.bz2", ".tbz", ".tbz2", ".tar.lz4", ".tar.lzma", ".tar.br", ".tar.z"),
)
"""How the names of compressed tars end, which can't be read by range."""

_LOOKED_FOR = (
    SUFFIX + MARKER,
    *(written(s) for s in (SUFFIX, *COMPRESSED) for written in (str, str.upper, str.title)),
)

# Dagster's UI splits typed keys at commas and reads "..." as a range; "|" separates the
# dimensions of multi-partition keys; control characters break its logs.
_KEY = re.compile(r"[^,|\x00-\x1f\x7f]+")
MOST_NAME_BYTES = 247  # of one part of a key: with ".parquet" a file system takes 255
MOST_FOLDERS = 100  # that a key is in
MOST_KEY_BYTES = 800  # S3 takes 1,024 of a path, with the folders of an artifact

RENAME = "rename it"
MEND_ENTRY = "mend it, or remove it from the source"
DECOMPRESS = "decompress it to a .tar, which is read by byte range"


@dataclass(frozen=True)
class Source:
    """What is at the source."""

    tars: Mapping[str, StoredFile]
    """By partition key, sorted."""
    files: Sequence[StoredFile]
    """Those that are tars by their names, and their markers."""
    unusable: Mapping[str, Unusable]
    """What can't be curated, by the key that it might have or, of a folder, its path; a tar
    that is there but may not be read is also in ``tars``."""
    troubles: Sequence[Trouble]
    """The same, told to people."""

    @property
    def marked(self) -> set[str]:
        """Those of the keys whose tar has a marker that is as new as it is.

        A tar that was replaced is newer than its marker, by the clock of the storage that
        both lie in, until it is marked anew.
        """
        written = {file.path: file.written_ns for file in self.files}
        return {
            shard
            for shard, tar in self.tars.items()
            if written.get(tar.path + MARKER, -1) >= tar.written_ns
        }


def list_shards(source: Storage, *, may_be_empty: bool = False) -> Mapping[str, StoredFile]:
    """List the tars of a source by partition key, sorted.

    Raises:
        InputError: As :func:`survey_source`.
    """
    return survey_source(source, may_be_empty=may_be_empty).tars


def survey_source(source: Storage, *, may_be_empty: bool = False) -> Source:
    """List the tars of a source, and what is there that might be one and can't be used.

    One odd entry costs itself. What is compressed, or has a name that can't be a partition
    key, is told with what to do; other files are none of ours.

    Raises:
        InputError: There is no tar that can be used.
    """
    with of_setting("source"):
        listing = source.survey(suffix=_LOOKED_FOR)
    found = [(entry, MEND_ENTRY) for entry in listing.unusable]
    tars: dict[str, StoredFile] = {}
    for file in listing.files:
        problem = _problem(file.path)
        if problem:
            found.append((Unusable(shown_name(file.path), problem[0]), problem[1]))
        elif file.path.endswith(SUFFIX):
            key = file.path.removesuffix(SUFFIX)
            tars[key] = file
            if not _may_be_read(source, file.path):
                reason = "it may not be read by whom this runs as: Permission denied"
                found.append((Unusable(file.path, reason), "let it be read"))
    troubles = [_trouble(entry, advice, tars) for entry, advice in found]
    if not tars and not may_be_empty:
        told = "".join(f"\n  {t.shard}: {t.what}; {t.advice}" for t in troubles[:20])
        raise InputError(
            f"{source.url}: there is no .tar file in this folder or below it; set `source` "
            f"in the recipe to where the raw shards are{told and '. What is there:' + told}"
        )
    unusable = {entry.path.removesuffix(SUFFIX): entry for entry, _ in found}
    return Source(tars, listing.files, unusable, troubles)


def key_problem(key: str) -> str | None:
    """Tell why a tar's path without .tar can't be a partition key; None if it can."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return "its name is no UTF-8"
    if not _KEY.fullmatch(key) or "..." in key:
        return "its path has a comma, '|', '...' or a control character in it"
    if max(len(part.encode()) for part in key.split("/")) > MOST_NAME_BYTES:
        return f"its name is longer than {MOST_NAME_BYTES} bytes, without .tar"
    if key.count("/") > MOST_FOLDERS:
        return f"it is in more than {MOST_FOLDERS} folders"
    if len(key.encode()) > MOST_KEY_BYTES:
        return f"its path is longer than {MOST_KEY_BYTES} bytes"
    return None


def _problem(path: str) -> tuple[str, str] | None:
    """Tell why a file that might be a shard is none, and what to do about it."""
    lower = path.lower()
    if path.endswith(SUFFIX):
        problem = key_problem(path.removesuffix(SUFFIX))
        return (problem, RENAME) if problem else None
    if lower.endswith(SUFFIX):
        return f"its name ends with {path[-len(SUFFIX) :]}, not with .tar", RENAME
    if lower.endswith(COMPRESSED):
        return "by its name a compressed tar", DECOMPRESS
    return None


def _trouble(entry: Unusable, advice: str, tars: Collection[str]) -> Trouble:
    """Tell of one entry: what nobody can miss is a note."""
    name = entry.path.rpartition("/")[2].lower()
    stem = entry.path
    for suffix in (SUFFIX, *COMPRESSED):
        if name.endswith(suffix):
            stem = entry.path[: -len(suffix)]
    is_spare = name.endswith(COMPRESSED) and stem in tars  # its own tar is beside it
    is_other = stem == entry.path and "." in name  # such as a link to a picture
    severity: Severity = "note" if is_spare or is_other else "lost"
    return Trouble(entry.path, entry.reason, severity, advice)


def _may_be_read(source: Storage, path: str) -> bool:
    place = source.local_path(path)
    return place is None or os.access(place, os.R_OK, effective_ids=_BY_EFFECTIVE_IDS)


_BY_EFFECTIVE_IDS = os.access in os.supports_effective_ids


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
