"""Which tars at the source are complete: what is still being written is not curated.

The sensor and the command go by it alike. A shard whose tar was replaced stays what it is
on record until the new tar is complete, so that the others are not compared without it in
between.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from curation.recipe import Recipe
from curation.storage import StoredFile, open_storage
from curation.troubles import Trouble
from curation_assets.lineage import raw_version
from curation_assets.partitions import MARKER, input_of, survey_source
from curation_assets.shard_asset import recorded_versions


@dataclass(frozen=True)
class Arrivals:
    """The tars at the source, and in which versions they are to be curated."""

    tars: Mapping[str, StoredFile]
    """By shard, in order."""
    versions: Mapping[str, str]
    """The data version of the tar of every shard that is complete, in order; of one that
    was replaced, and is not complete yet, the version on record."""
    unrecorded: Mapping[str, str]
    """Of the tars that are new or were replaced, the data version."""
    waiting: tuple[str, ...]
    """Shards whose tar is new or was replaced, and is not complete."""
    troubles: tuple[Trouble, ...] = ()
    """What is at the source that might be a shard, or is one, and can't be used."""

    @property
    def unseen(self) -> set[str]:
        """Paths of what could not be looked at; below them there may be shards."""
        return {trouble.shard for trouble in self.troubles}


def find_arrivals(
    instance: dg.DagsterInstance, recipe: Recipe, seen: Mapping[str, str] | None = None
) -> Arrivals:
    """List the source, and find the tars that are complete.

    Args:
        instance: Holds the records: a tar that is on record as it is needs no proof.
        recipe: Where the source is, and when a tar is complete.
        seen: For a rule that goes by two listings, :attr:`Arrivals.unrecorded` of the one
            before; None takes every tar for complete.

    Raises:
        InputError: As :func:`curation_assets.partitions.survey_source`.
        StorageError: The source can't be listed.
    """
    source, inputs = open_storage(recipe.source, recipe.s3), recipe.imports.names
    # before the first import it may be empty
    there = survey_source(source, may_be_empty=bool(inputs))
    tars, unreadable = there.tars, there.tars.keys() & there.unusable.keys()
    recorded = recorded_versions(instance, "raw_shard")
    found = {shard: raw_version(tar) for shard, tar in tars.items()}
    unrecorded = {s: version for s, version in found.items() if recorded.get(s) != version}
    if recipe.complete_when == "marked":  # imports write tars whole
        complete = there.marked | {s for s in tars if input_of(s) in inputs}
    else:
        complete = {s for s in tars if seen is None or seen.get(s) == found[s]}
    waiting = tuple(s for s in unrecorded if s not in complete | unreadable)
    versions = found | {s: recorded.get(s, "") for s in (*waiting, *unreadable)}
    return Arrivals(
        tars,
        {shard: version for shard, version in versions.items() if version},
        unrecorded,
        waiting,
        tuple(there.troubles),
    )


def tell_waiting(recipe: Recipe, waiting: tuple[str, ...]) -> str:
    """Say for what tars wait, of which there is at least one."""
    if recipe.complete_when == "unchanged":
        return f"{len(waiting)} tar(s) are new or changed, and have to look the same twice"
    return (
        f"{len(waiting)} tar(s) are new or changed, and wait to be marked as complete by a "
        f"file beside them that is as new as they are, the first one by "
        f"{waiting[0]}.tar{MARKER}"
    )
