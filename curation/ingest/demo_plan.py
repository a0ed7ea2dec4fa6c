"""Which kinds of samples the demo dataset has, and which sample is of which kind.

Belongs here: the kinds with their stable names and what a correct run makes of each, and
the plan that spreads them over shards. How a sample of a kind looks belongs in
``demo_samples.py``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.errors import InputError
from curation.ingest.demo_pictures import Region

Expected = Literal["kept", "dropped", "quarantined", "ignored"]
"""What a correct run makes of a planted thing; what is ignored is a member of the tar that
belongs to no sample."""

MIN_SIDE = 200
"""Pixels; an image whose shorter side has fewer is tiny."""

SIMILARITY = "similarity"
"""What decides on near copies: hashes and embeddings, which may err."""

MIN_SHARDS = 3  # a threefold group of copies spans three


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that is planted."""

    expected: Expected
    per_shard: int
    """How many there are for every shard: of copies, groups; of photographs, the rest."""
    decided_by: str = ""
    """What a recipe must look at to get it right; empty where nothing speaks against."""


KINDS: dict[str, Kind] = {
    "photograph": Kind("kept", 0),
    "exact_copy": Kind("dropped", 5, "is_duplicate"),
    "exact_copy_threefold": Kind("dropped", 1, "is_duplicate"),
    "exact_copy_same_shard": Kind("dropped", 1, "is_duplicate"),
    "near_copy_resize": Kind("dropped", 3, SIMILARITY),
    "near_copy_quality": Kind("dropped", 2, SIMILARITY),
    "near_copy_crop": Kind("dropped", 2, SIMILARITY),
    "near_copy_colour": Kind("dropped", 2, SIMILARITY),
    "blurred": Kind("dropped", 12, "sharpness"),
    "tiny": Kind("dropped", 3, "size"),
    "smallest_kept": Kind("kept", 1, "size"),
    "truncated_jpeg": Kind("quarantined", 3, "decoding"),
    "garbage": Kind("quarantined", 1, "decoding"),
    "empty_file": Kind("quarantined", 1, "decoding"),
    "html_page": Kind("quarantined", 1, "decoding"),
    "no_image": Kind("quarantined", 1, "no image"),
    "dotted_base_name": Kind("quarantined", 1, "no image"),
    "no_caption_file": Kind("dropped", 1, "caption"),
    "empty_caption": Kind("dropped", 1, "caption"),
    "png": Kind("kept", 1),
    "png_with_alpha": Kind("kept", 1),
    "png_named_jpg": Kind("kept", 1),
    "webp": Kind("kept", 1),
    "webp_named_jpg": Kind("kept", 1),
    "jpg_named_png": Kind("kept", 1),
    "grey_jpg": Kind("kept", 1),
    "cmyk_jpg": Kind("kept", 1),
    "exif_rotated": Kind("kept", 1),
    "progressive_jpg": Kind("kept", 1),
    "upper_case_extension": Kind("kept", 1),
    "jpeg_extension": Kind("kept", 1),
    "dotted_folder": Kind("kept", 1),
    "not_adjacent": Kind("kept", 1),
    "long_name": Kind("kept", 1),
    "extra_component": Kind("kept", 1),
    "key_in_every_shard": Kind("kept", 1),
    "folder_entry": Kind("ignored", 1),
    "hidden_file": Kind("ignored", 1),
    "readme": Kind("ignored", 1),
}
"""Every kind by its stable name.

Of copies the original has the smallest key, and no near copy has more pixels, so that
``prefer: [pixels desc, key asc]`` keeps it. ``dotted_base_name`` is ``123.final.jpg``:
WebDataset and DALI split at the first dot, so that its image has the extension
``final.jpg``, which no recipe lists.
``not_adjacent`` has its ``.json`` at the end of the tar. ``key_in_every_shard`` is a
sample with the key ``cover``, another one in every shard.
"""

EXACT_COPIES = ("exact_copy", "exact_copy_threefold", "exact_copy_same_shard")
NEAR_COPIES = (
    "near_copy_resize",
    "near_copy_quality",
    "near_copy_crop",
    "near_copy_colour",
)
SHOWN_AGAIN = ("truncated_jpeg",)
"""Kinds without a vector or hash, which may show a region that another sample shows."""

NOT_SHOWN = ("garbage", "empty_file", "html_page", "no_image")
STRAYS = ("folder_entry", "hidden_file", "readme")

_LONG_FOLDER = "photographs-of-things-that-lie-around-in-the-wheels-of-python-packages"
_LONG_NAME = "with-a-name-as-long-as-those-that-content-systems-like-to-give"


@dataclass(slots=True)
class Slot:
    """A sample that is to be made."""

    shard: int
    number: int
    """Its place in the shard, which its key holds, so that a copy's key is the larger."""
    kind: str = "photograph"
    occurrence: int = 0
    """How many of its kind come before it in the dataset."""
    region: Region | None = None
    original: "Slot | None" = None
    has_copies: bool = False
    sharpness_label: str | None = None
    """``sharp`` or ``blurred`` for the samples that a probe is trained and tested on."""

    @property
    def key(self) -> str:
        """The sample's key in its shard."""
        number = f"{self.shard:05d}{self.number:04d}"
        if self.kind == "dotted_folder":
            return f"album.v1.0/{number}"
        if self.kind == "long_name":
            return f"{_LONG_FOLDER}/{number}-{_LONG_NAME}"
        return "cover" if self.kind == "key_in_every_shard" else number


def min_samples_per_shard() -> int:
    """Give the samples that a shard needs for one of its own photographs to be left."""
    singles = sum(KINDS[kind].per_shard for kind in _single_kinds())
    return (
        singles
        + 1
        + sum(
            KINDS[kind].per_shard * _group_size(kind) for kind in EXACT_COPIES + NEAR_COPIES
        )
    )


def plan_samples(
    num_shards: int, samples_per_shard: int, regions: Sequence[Region], seed: int
) -> list[list[Slot]]:
    """Decide what every sample of every shard is, and what it shows.

    Args:
        num_shards: At least ``MIN_SHARDS``.
        samples_per_shard: At least :func:`min_samples_per_shard`.
        regions: What can be shown, the best first.
        seed: Decides the places of everything.

    Raises:
        InputError: There are fewer regions than samples that need one of their own.
    """
    rng = np.random.default_rng([seed, num_shards, samples_per_shard])
    shards = [
        [Slot(shard, number) for number in range(samples_per_shard)]
        for shard in range(num_shards)
    ]
    free = [[slots[i] for i in rng.permutation(samples_per_shard)] for slots in shards]
    for kind in _single_kinds():
        for slots in free:
            for _ in range(KINDS[kind].per_shard):
                slots.pop().kind = kind
    for kind, group in _copy_groups(num_shards):
        members = [free[shard].pop() for shard in group]
        original, *copies = sorted(members, key=lambda slot: (slot.shard, slot.number))
        original.has_copies = True
        for copy in copies:
            copy.kind, copy.original = kind, original
    _count_and_label(shards)
    _give_regions([slot for slots in shards for slot in slots], regions, rng)
    return shards


def _single_kinds() -> list[str]:
    others = ("photograph", *EXACT_COPIES, *NEAR_COPIES, *STRAYS)
    return [kind for kind in KINDS if kind not in others]


def _group_size(kind: str) -> int:
    return 3 if kind == "exact_copy_threefold" else 2


def _copy_groups(num_shards: int) -> Iterator[tuple[str, list[int]]]:
    """Say in which shards the members of each group of copies lie, spread evenly."""
    for kind in EXACT_COPIES + NEAR_COPIES:
        for group in range(KINDS[kind].per_shard * num_shards):
            lap, first = divmod(group, num_shards)
            step = 0 if kind == "exact_copy_same_shard" else 1 + lap % (num_shards - 1)
            yield kind, [(first + i * step) % num_shards for i in range(_group_size(kind))]


def _count_and_label(shards: list[list[Slot]]) -> None:
    """Number the samples of a kind, and label as many sharp ones as blurred ones."""
    seen: Counter[str] = Counter()
    for slots in shards:
        num_sharp = 0
        for slot in slots:
            slot.occurrence = seen[slot.kind]
            seen[slot.kind] += 1
            if slot.kind == "blurred":
                slot.sharpness_label = "blurred"
            elif slot.kind == "photograph" and num_sharp < KINDS["blurred"].per_shard:
                slot.sharpness_label = "sharp"
                num_sharp += 1


def _give_regions(
    slots: Sequence[Slot], regions: Sequence[Region], rng: np.random.Generator
) -> None:
    """Give every sample that shows something a region of its own, but for copies."""
    shared = (*EXACT_COPIES, *NEAR_COPIES, *SHOWN_AGAIN, *NOT_SHOWN)
    alone = [slot for slot in slots if slot.kind not in shared]
    if len(alone) > len(regions):
        raise InputError(
            f"num_shards and samples_per_shard ask for {len(alone)} pictures that no "
            f"other sample shows, and the photographs have {len(regions)}; lower either"
        )
    for slot, i in zip(alone, rng.permutation(len(alone)), strict=True):
        slot.region = regions[i]
    for slot in slots:
        if slot.kind in SHOWN_AGAIN:
            slot.region = regions[int(rng.integers(len(alone)))]
        elif slot.original:
            slot.region = slot.original.region
