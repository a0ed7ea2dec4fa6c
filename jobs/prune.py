"""What in an output nothing refers to any more, and may be deleted.

Artifacts outlive their shard, in case that it comes back, and the settings that they were
made by, in case that those are taken up again. Nothing is ever deleted but from here.
Releases and takedowns are never touched, but for files that a killed process left
unfinished among them.
"""

import time
from collections.abc import Sequence

from curation.errors import InputError
from curation.filtered_folder import SET_ASIDE
from curation.recipe import Recipe
from curation.release.claims import abandoned_claims
from curation.storage import Storage, StoredFile, open_storage
from curation_assets.lineage import VERSIONS, Lineage
from curation_assets.partitions import survey_source

_SHARED = (
    "index/",
    "index-salvage/",
    "embeddings/",
    "caption_embeddings/",
    "scores/",
    "compared/",
)
"""Folders that recipes with one output have in common."""
_OWN = ("duplicates", "selection", "filtered", SET_ASIDE)
"""Folders in which every recipe has one of its own."""


ABANDONED_SECONDS = 24 * 3600
"""After which what a write began, and did not end, is taken for a killed process's."""


def find_abandoned(output: Storage) -> tuple[list[StoredFile], list[StoredFile]]:
    """List the unfinished files, or uploads, of writes that ended with their process.

    Returns:
        Them, and the claims of releases that it held.
    """
    before = (time.time() - ABANDONED_SECONDS) * 1e9
    unfinished = [file for file in output.unfinished() if file.written_ns < before]
    return unfinished, abandoned_claims(output, before)


def find_unused(recipes: Sequence[Recipe]) -> list[StoredFile]:
    """List the files that none of the recipes refers to.

    Args:
        recipes: All that have this output; the artifacts of one that is left out count as
            unused where recipes share a folder.

    Raises:
        InputError: They have different outputs, or there are no shards at a source.
    """
    if len({recipe.output for recipe in recipes}) != 1:
        raise InputError("the recipes have different outputs; prune one output at a time")
    used: set[str] = set()
    hidden: list[str] = []  # a link to a disk that is away may come back
    folders = list(_SHARED)
    kept_folders = []
    for recipe in recipes:
        artifacts = Lineage(recipe).artifacts
        source = survey_source(open_storage(recipe.source, recipe.s3))
        shards, hidden = source.tars, [*hidden, *source.unusable]
        used.update(p for asset in VERSIONS for s in shards for p in artifacts.of(asset, s))
        folders += [f"{folder}/{recipe.name}/" for folder in _OWN]
        kept_folders.append(f"compared/{artifacts.encoder}/")
    output = open_storage(recipes[0].output, recipes[0].s3)
    return [
        file
        for file in output.list_files()
        if file.path not in used
        and file.path.startswith(tuple(folders))
        and not file.path.startswith(tuple(kept_folders))
        and not any(f"/{path}{end}" in file.path for path in hidden for end in "./")
    ]
