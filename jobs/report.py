"""What a report shows: which samples stand for a reason or a score, which are copies.

All is decided anew from the tables, so that a report agrees with its recipe as it is now.
How a report looks belongs in ``curation/report.py``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.classifiers import make_classifiers
from curation.copy_groups import CopyGroup, largest_groups
from curation.errors import CurationError
from curation.funnel import count_funnel
from curation.index import read_indexed_file
from curation.preview import HISTOGRAM_BINS, Preview, find_thresholds, preview_threshold
from curation.recipe import Recipe
from curation.report import Gallery, Histogram, Picture, PicturedGroup, Report
from curation.selection import QUARANTINED
from curation.storage import open_storage
from curation.tables import EMBEDDINGS, read_table
from curation_assets.lineage import Lineage
from jobs.decide import Decided, decide

PICTURES = 16  # in a gallery
GROUPS = 24  # of copies
COPIES = 6  # of a group, beside the one that stays: with it, a row of the page
MOST_REASONS = 20  # that have a gallery; the funnel has all
PARALLEL_READS = 8

Place = tuple[str, str]
"""A sample's shard and key."""


@dataclass(frozen=True)
class Choice:
    """Samples to show under one heading, each with what it is shown for."""

    title: str
    samples: Sequence[tuple[Place, str]]


def make_report(recipe: Recipe) -> Report:
    """Gather what a report of a recipe's selection shows.

    Raises:
        CurationError: As :func:`jobs.decide.decide`.
    """
    decided = decide(recipe, also_scores=True)
    previews = [
        preview_threshold(decided.filter, decided.samples, threshold, num_nearest=PICTURES)
        for threshold in find_thresholds(decided.filter)
    ]
    scores = {name: _score(decided, name) for name in recipe.classifiers}
    choices = [
        *_borderline(previews),
        *_extremes(recipe, decided, scores),
        *_by_decision(decided),
    ]
    tables = {shard: of.duplicates for shard, of in decided.shards.items()}
    groups, num_groups = largest_groups(tables, most_groups=GROUPS, most_copies=COPIES)
    wanted = [place for choice in choices for place, _ in choice.samples]
    wanted += [place for group in groups for place in _members(group)]
    pictures = _read_pictures(recipe, wanted)
    return Report(
        title=f"Selection {recipe.name}",
        filter=decided.filter.canonical(),
        funnel=count_funnel(decided.selections.values(), decided.filter),
        histograms=[
            *map(_threshold_histogram, previews),
            *_other_histograms(scores, {found.threshold.subject for found in previews}),
        ],
        galleries=[
            Gallery(choice.title, [pictures.show(*sample) for sample in choice.samples])
            for choice in choices
        ],
        groups=_pictured(groups, pictures, decided),
        num_groups=num_groups,
        remarks=_remarks(recipe, decided),
    )


def _remarks(recipe: Recipe, decided: Decided) -> list[str]:
    remarks = [
        f"{len(decided.shards)} shard(s) of {recipe.shown_source}, embedded with "
        f"{recipe.encoder.model}. Pictures of a kind are taken evenly from all of it."
    ]
    if decided.missing:
        count = len(decided.missing)
        remarks.append(f"{count} more shard(s) are not scored and compared yet.")
    return remarks


def _score(decided: Decided, name: str) -> np.ndarray:
    """Give one score of all samples, shard after shard; NaN where there is none."""
    parts = [tables.scores[name].to_numpy() for tables in decided.shards.values()]
    return np.concatenate(parts)


def _threshold_histogram(preview: Preview) -> Histogram:
    cut = preview.threshold
    return Histogram(
        f"{cut.subject} {cut.operator} {cut.value:g}",
        preview.histogram,
        preview.edges,
        [cut],
        preview.num_missing,
    )


def _other_histograms(
    scores: Mapping[str, np.ndarray], shown: Collection[str]
) -> Iterator[Histogram]:
    """Give the scores that the filter puts no threshold on."""
    for name in sorted(scores.keys() - shown):
        values = scores[name]
        known = values[np.isfinite(values)]
        counts, edges = np.histogram(known, bins=HISTOGRAM_BINS)
        yield Histogram(name, counts, edges, num_missing=len(values) - len(known))


def _borderline(previews: Sequence[Preview]) -> Iterator[Choice]:
    for preview in previews:
        cut = preview.threshold
        sides = {"kept": preview.nearest_kept, "dropped": preview.nearest_dropped}
        for side, nearest in sides.items():
            yield Choice(
                f"{cut.subject} {cut.operator} {cut.value:g}: just {side}",
                [((shard, key), f"{value:.4g}") for shard, key, value in nearest],
            )


def _extremes(
    recipe: Recipe, decided: Decided, scores: Mapping[str, np.ndarray]
) -> Iterator[Choice]:
    places = _places({shard: tables.scores for shard, tables in decided.shards.items()})
    classifiers = make_classifiers(recipe.classifiers)
    for name, values in scores.items():
        known = np.flatnonzero(np.isfinite(values))
        rising = known[np.argsort(values[known], kind="stable")]
        ends = {"lowest": rising[:PICTURES], "highest": rising[::-1][:PICTURES]}
        meanings = ("best", "worst")
        if not classifiers[name].higher_is_better:
            meanings = ("worst", "best")
        for end, meaning in zip(("highest", "lowest"), meanings, strict=True):
            yield Choice(
                f"{name}: {end}, the {meaning}",
                [(places[row], f"{values[row]:.4g}") for row in ends[end].tolist()],
            )


def _by_decision(decided: Decided) -> Iterator[Choice]:
    """Choose samples of what was kept and of every reason, evenly from all shards."""
    places = _places(decided.selections)
    all_reasons = [
        reasons
        for table in decided.selections.values()
        for reasons in table["reasons"].to_pylist()
    ]
    groups: dict[str, list[int]] = {"kept": []}
    for row, reasons in enumerate(all_reasons):
        for reason in reasons or ["kept"]:
            groups.setdefault(_group(reason), []).append(row)
    largest = sorted(groups.items(), key=lambda group: (group[0] != "kept", -len(group[1])))
    for name, rows in largest[: MOST_REASONS + 1]:
        title = "Kept" if name == "kept" else f"Dropped: {name}"
        yield Choice(
            f"{title} ({len(rows):,})",
            [(places[row], "; ".join(all_reasons[row])) for row in _evenly(rows, PICTURES)],
        )


def _group(reason: str) -> str:
    return "quarantined" if reason.startswith(QUARANTINED) else reason


def _members(group: CopyGroup) -> list[Place]:
    copies = [(copy.shard, copy.key) for copy in group.copies]
    return [(group.shard, group.key), *copies]


def _pictured(
    groups: Sequence[CopyGroup], pictures: "_Pictures", decided: Decided
) -> list[PicturedGroup]:
    """Show groups; of one that stays, and is dropped for other reasons, tell those."""
    return [
        PicturedGroup(
            pictures.show((group.shard, group.key), _fate(decided, group)),
            [pictures.show((one.shard, one.key), one.closeness) for one in group.copies],
            group.num_copies,
        )
        for group in groups
    ]


def _fate(decided: Decided, group: CopyGroup) -> str:
    selection = decided.selections.get(group.shard)
    if selection is None:
        return "stays"
    rows = selection.filter(pc.equal(selection["key"], group.key))
    reasons = rows["reasons"][0].as_py()
    return f"stays of these; dropped: {'; '.join(reasons)}" if reasons else "stays"


def _places(tables: Mapping[str, pa.Table]) -> list[Place]:
    return [
        (shard, key) for shard, table in tables.items() for key in table["key"].to_pylist()
    ]


T = TypeVar("T")


def _evenly(items: Sequence[T], most: int) -> list[T]:
    step = max(len(items) / most, 1.0)
    return [items[int(number * step)] for number in range(min(most, len(items)))]


@dataclass(frozen=True)
class _Pictures:
    images: Mapping[Place, bytes]
    captions: Mapping[Place, str]

    def show(self, place: Place, note: str) -> Picture:
        image, caption = self.images.get(place, b""), self.captions.get(place, "")
        return Picture(*place, image, note, caption)


_SHOWN = ["key", "image_start", "image_bytes", "caption"]


def _read_pictures(recipe: Recipe, wanted: Sequence[Place]) -> _Pictures:
    """Read the images and captions of some samples by byte range; reads run in threads."""
    source = open_storage(recipe.source, recipe.s3)
    output, artifacts = open_storage(recipe.output, recipe.s3), Lineage(recipe).artifacts
    facts = dict(_facts(recipe, wanted))

    def read(place: Place) -> bytes:
        start, size = facts[place]["image_start"], facts[place]["image_bytes"]
        if start is None:
            return b""
        try:
            tar = read_indexed_file(output, artifacts.catalog(place[0]))
            return source.read_version(tar, start, start + size)
        except CurationError:  # a picture is not worth failing for
            return b""

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        images = dict(zip(facts, pool.map(read, facts), strict=True))
    return _Pictures(images, {place: row["caption"] or "" for place, row in facts.items()})


def _facts(
    recipe: Recipe, wanted: Sequence[Place]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    output = open_storage(recipe.output, recipe.s3)
    keys: dict[str, set[str]] = {}
    for shard, key in wanted:
        keys.setdefault(shard, set()).add(key)
    for shard, some in keys.items():
        path = Lineage(recipe).artifacts.embeddings(shard)
        table = read_table(output, path, EMBEDDINGS, _SHOWN)
        mine = table.filter(pc.is_in(table["key"], value_set=pa.array(sorted(some))))
        for row in reversed(mine.to_pylist()):  # of a key that repeats, the first counts
            yield (shard, row["key"]), row
