"""Is everything there that a recipe needs, and does its loader place pixels as timm does?

Belongs here: looking. Nothing is made, and nothing is left behind.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice

from curation.embedding import find_image
from curation.errors import CurationError, InputError
from curation.index import build_index
from curation.parity import Parity, measure_parity
from curation.recipe import Recipe
from curation.recipe_tools import make_tools
from curation.samples import read_samples
from curation.storage import Storage, open_storage
from curation.tar import read_members
from curation.tar_glance import glance
from curation_assets.partitions import list_shards, survey_source, tar_path
from jobs.instance import has_records, open_instance
from jobs.recipe_check import CHECKS
from jobs.troubles import current_troubles, folded_notes

PACKAGES = ("dagster", "nvidia-dali-cuda120", "torch", "timm", "pyarrow", "polars", "s3fs")


GLANCES = 64
"""Tars of a source that are looked at, evenly drawn."""
GLANCES_AT_ONCE = 16
MOST_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    is_good: bool = True


def examine(recipe: Recipe) -> list[Finding]:
    """Look at the machine, the packages and all that the recipe names."""
    python = ".".join(map(str, sys.version_info[:3]))
    findings = [Finding("python", python)]
    findings += [Finding(name, version(name)) for name in PACKAGES]
    findings += [_tried(one.what, partial(one.look, recipe)) for one in CHECKS]
    findings.append(_tried("source", lambda: _look_at_source(recipe)))
    return findings + list(_shard_findings(recipe))


def measure_own_parity(recipe: Recipe, num_images: int = 64) -> Parity:
    """Compare the recipe's loader with timm's transform on images of the source.

    Raises:
        InputError: The source has no tars, or none of its first images can be decoded.
        ShardError: Its first tar is damaged.
    """
    loader, embedder = make_tools(recipe)
    source = open_storage(recipe.source, recipe.s3)
    images = list(islice(_images(source, recipe), num_images))
    return measure_parity(images, loader, embedder)


def _images(source: Storage, recipe: Recipe) -> Iterator[bytes]:
    for shard in list_shards(source):
        tar = tar_path(shard)
        index = build_index(read_members(source, tar, on_damage="salvage"))
        for sample in read_samples(source, tar, index, recipe.images.extensions):
            component = find_image(sample, recipe.images)
            data = sample.contents.get(component.extension) if component else None
            if data:
                yield data


def _shard_findings(recipe: Recipe) -> Iterator[Finding]:
    """Tell what is wrong with the shards that were made."""
    try:
        source = survey_source(open_storage(recipe.source, recipe.s3))
        with open_instance(recipe) if has_records(recipe) else nullcontext() as instance:
            troubles = current_troubles(recipe, source.tars, source.troubles, instance)
    except CurationError:
        return  # told of the source and the output already
    bad = [trouble for trouble in troubles if trouble.severity != "note"]
    for trouble in [*bad, *folded_notes(troubles)]:
        text = f"{trouble.what}; what to do: {trouble.advice}"
        yield Finding(f"shard {trouble.shard}", text, trouble.severity == "note")


def _tried(what: str, look: Callable[[], str | None]) -> Finding:
    try:
        return Finding(what, look() or "as it should be")
    except CurationError as error:
        return Finding(what, str(error), is_good=False)


def _look_at_source(recipe: Recipe) -> str:
    """Count the tars, and look at both ends of some.

    Raises:
        InputError: There are none, or some are no tars or were cut off.
    """
    source = open_storage(recipe.source, recipe.s3)
    tars = list(list_shards(source).values())
    chosen = tars[:: -(-len(tars) // GLANCES)]
    with ThreadPoolExecutor(GLANCES_AT_ONCE) as pool:
        reasons = pool.map(partial(glance, source), chosen)
    bad = {tar.path: why for tar, why in zip(chosen, reasons, strict=True) if why}
    if bad:
        named = "".join(f"\n{path}: {bad[path]}" for path in islice(bad, MOST_NAMED))
        more = "\n…" if len(bad) > MOST_NAMED else ""
        raise InputError(
            f"{len(bad)} of the {len(chosen)} tars that were looked at (of {len(tars):,}) "
            f"are damaged:{named}{more}"
        )
    num_bytes = sum(tar.size for tar in tars)
    return f"{len(tars):,} tars, {num_bytes:,} bytes, in {recipe.shown_source}"
