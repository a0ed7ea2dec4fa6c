"""Calibrating thresholds of duplicates on images that a recipe has embedded."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from curation.calibration_page import CalibrationPage
from curation.dedup.calibrate import (
    Calibration,
    ClosePair,
    measure_edits,
    most_lenient,
    num_pairs,
)
from curation.dedup.edits import EDITS
from curation.embedding import embed_samples
from curation.errors import InputError, NotFoundError
from curation.index import read_indexed_file
from curation.recipe import Recipe
from curation.recipe_tools import make_tools
from curation.report import Picture
from curation.samples import Component, Sample
from curation.storage import open_storage
from curation.tables import EMBEDDINGS, read_table
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards

_WHERE = ["key", "error", "sha256", "image_start", "image_bytes"]
_EXTENSION = "image"  # of what is embedded here: formats are known by content


LEAST_PAIRS = 10_000
"""Of different images, from which thresholds are advised: a mistake that is made of 1 pair
in 3,333 is among them for certain (95%, the rule of three)."""
LEAST_IMAGES = 150
"""That have as many pairs, if a few are copies of others."""


@dataclass(frozen=True)
class Drawn:
    """An image that stands for the dataset."""

    shard: str
    key: str
    image: bytes


def draw_images(recipe: Recipe, num_images: int, *, seed: int = 0) -> list[Drawn]:
    """Draw images from all embedded shards, evenly; none has the bytes of another.

    Raises:
        NotFoundError: No shard is embedded yet.
        InputError: Fewer than two different images are there.
    """
    source = open_storage(recipe.source, recipe.s3)
    places: dict[str, tuple[str, str, int, int]] = {}
    for shard in list_shards(source):
        places |= _usable(_read_where(recipe, shard), shard)
    if not places:
        raise NotFoundError(
            f"{recipe.output}: no shard of the recipe {recipe.name} has embeddings yet; "
            "make them by: curate run --until embeddings"
        )
    if len(places) < 2:
        raise InputError("calibrating takes two different images at least; found one")
    listed = [places[sha256] for sha256 in sorted(places)]
    count = min(num_images, len(listed))
    chosen = np.random.default_rng(seed).choice(len(listed), count, replace=False)
    output, artifacts = open_storage(recipe.output, recipe.s3), Lineage(recipe).artifacts

    def read(shard: str, start: int, size: int) -> bytes:
        tar = read_indexed_file(output, artifacts.catalog(shard))
        return source.read_version(tar, start, start + size)

    return [
        Drawn(shard, key, read(shard, start, size))
        for shard, key, start, size in (listed[i] for i in sorted(chosen.tolist()))
    ]


def calibrate(
    recipe: Recipe, images: Sequence[Drawn], tell: Callable[[str], object]
) -> Calibration:
    """Measure what thresholds catch of edited copies of images, by the recipe's encoder.

    Args:
        recipe: Whose encoder.
        images: As :func:`draw_images` gives them.
        tell: Is told how far it is.

    Raises:
        InputError: The recipe asks for a GPU, and there is none.
    """
    # Edits are made of images as they are stored, so that turning would part copies.
    settings = recipe.images.model_copy(
        update={"extensions": (_EXTENSION,), "rotate_by_exif": False}
    )
    loader, embedder = make_tools(recipe.model_copy(update={"images": settings}))

    num_done, began = 0, time.monotonic()

    def embed(encoded: Sequence[bytes]) -> pa.Table:
        table = embed_samples(_samples(encoded), loader, embedder, settings)
        nonlocal num_done
        num_done += 1
        num_sets = 1 + len(EDITS)
        each = (time.monotonic() - began) / num_done
        left = timedelta(seconds=round(each * (num_sets - num_done)))
        tell(
            f"embedded {num_done} of {num_sets} sets of {len(encoded):,} images, about "
            f"{left} left"
        )
        return table

    return measure_edits([one.image for one in images], embed)


def calibration_page(
    recipe: Recipe, images: Sequence[Drawn], found: Calibration
) -> CalibrationPage:
    """Gather what the page of a calibration shows."""
    return CalibrationPage(
        title=f"What thresholds of duplicates catch: {recipe.name}",
        remarks=[
            f"{len(images):,} images of {recipe.shown_source}, each edited in every way "
            f"and compared with itself, and with all others as they are. Encoder: "
            f"{recipe.encoder.model}.",
            advice(found),
        ],
        table=found.table,
        closest=_pictures(images, found.closest),
        copies=_pictures(images, found.copies),
    )


def advice(found: Calibration) -> str:
    """Name the thresholds that catch most without taking different images for copies.

    Of few pairs none is alike at thresholds that take many of a dataset's for copies, so
    that below :data:`LEAST_PAIRS` none is named.
    """
    pairs = num_pairs(found.table)
    if pairs < LEAST_PAIRS:
        return (
            f"No threshold is advised: {pairs:,} pairs of different images are too few to "
            f"see mistakes that are rare. It takes {LEAST_PAIRS:,}, which "
            f"--num-images {LEAST_IMAGES} have, if the source has as many different ones."
        )
    parts = []
    for method, setting in (("semantic", "min_similarity"), ("perceptual", "max_hamming")):
        threshold = most_lenient(found.table, method)
        parts.append(
            f"{setting}: {threshold:g}"
            if threshold is not None
            else f"none that was measured of {setting}"
        )
    return (
        f"What catches most and takes none of {pairs:,} pairs of different images for "
        f"copies: {', '.join(parts)}. So it takes fewer than 1 of {pairs // 3:,} pairs, "
        "for certain (95%). The page has the closest pairs: copies among them are no "
        "mistakes."
    )


def _read_where(recipe: Recipe, shard: str) -> pa.Table | None:
    """Read where the images of a shard are; None if it isn't embedded."""
    output = open_storage(recipe.output, recipe.s3)
    try:
        path = Lineage(recipe).artifacts.embeddings(shard)
        return read_table(output, path, EMBEDDINGS, _WHERE)
    except NotFoundError:
        return None


def _usable(table: pa.Table | None, shard: str) -> dict[str, tuple[str, str, int, int]]:
    """Say by the hashes of a shard's images where they are."""
    if table is None:
        return {}
    return {
        row["sha256"]: (shard, row["key"], row["image_start"], row["image_bytes"])
        for row in table.filter(table["error"].is_null()).to_pylist()
    }


def _samples(encoded: Sequence[bytes]) -> Iterator[Sample]:
    for number, image in enumerate(encoded):
        whole = Component(_EXTENSION, 0, len(image))
        yield Sample(str(number), (whole,), {_EXTENSION: image})


def _pictures(
    images: Sequence[Drawn], pairs: Sequence[ClosePair]
) -> list[tuple[Picture, Picture]]:
    return [
        (_shown(images, pair, pair.one), _shown(images, pair, pair.other)) for pair in pairs
    ]


def _shown(images: Sequence[Drawn], pair: ClosePair, which: int) -> Picture:
    bits = "" if pair.bits is None else f", {pair.bits} bits"
    one = images[which]
    return Picture(one.shard, one.key, one.image, f"cosine {pair.cosine:.3f}{bits}")
