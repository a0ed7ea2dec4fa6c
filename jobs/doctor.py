"""Is everything there that a recipe needs, and does its loader place pixels as timm does?

Belongs here: looking. Nothing is made, and nothing is left behind.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice

from curation.devices import first_device
from curation.embedding import find_image
from curation.errors import CurationError
from curation.index import build_index
from curation.parity import Parity, measure_parity
from curation.recipe import Recipe
from curation.recipe_tools import make_tools
from curation.samples import read_samples
from curation.storage import Storage, open_storage
from curation.tar import read_members
from curation_assets.partitions import list_shards, tar_path
from jobs.instance import has_records, open_instance
from jobs.recipe_check import check_ready, check_recipe
from jobs.troubles import current_troubles

PACKAGES = ("dagster", "nvidia-dali-cuda120", "torch", "timm", "pyarrow", "polars", "s3fs")


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
    findings += [
        _tried("recipe", lambda: check_recipe(recipe)),
        _tried("weights and output", lambda: check_ready(recipe, "filtered_shard")),
        _tried("source", lambda: _count_shards(recipe)),
        _tried("device", lambda: first_device(recipe.machine.device)),
    ]
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
        tars = list_shards(open_storage(recipe.source, recipe.s3))
        with open_instance(recipe) if has_records(recipe) else nullcontext() as instance:
            troubles = current_troubles(recipe, tars, instance)
    except CurationError:
        return  # told of the source and the output already
    for trouble in troubles:
        text = f"{trouble.what}; what to do: {trouble.advice}"
        yield Finding(f"shard {trouble.shard}", text, trouble.severity == "note")


def _tried(what: str, look: Callable[[], str | None]) -> Finding:
    try:
        return Finding(what, look() or "as it should be")
    except CurationError as error:
        return Finding(what, str(error), is_good=False)


def _count_shards(recipe: Recipe) -> str:
    tars = list_shards(open_storage(recipe.source, recipe.s3))
    num_bytes = sum(tar.size for tar in tars.values())
    return f"{len(tars):,} tars, {num_bytes:,} bytes, in {recipe.source}"
