"""What a report shows of a curated dataset."""

import hashlib
from collections import Counter, defaultdict

import pyarrow.parquet as pq

from curation.tables import DUPLICATES, EMBEDDINGS, SCORES, SELECTION, read_table
from jobs.report import make_report
from tests.conftest import Curated

SHARDS = ("00000", "train/00001", "train/00002")


def test_pictures_are_the_samples_own_bytes_and_captions(curated: Curated) -> None:
    facts = {
        (shard, row["key"]): row
        for shard in SHARDS
        for row in reversed(
            read_table(
                curated.output, curated.artifacts.embeddings(shard), EMBEDDINGS
            ).to_pylist()
        )
    }
    report = make_report(curated.recipe)
    shown = [picture for gallery in report.galleries for picture in gallery.pictures]
    shown += [p for group in report.groups for p in (group.stays, *group.copies)]
    assert len(shown) > 100
    for picture in shown:
        row = facts[picture.shard, picture.key]
        assert picture.caption == (row["caption"] or "")
        if row["sha256"]:
            assert hashlib.sha256(picture.image).hexdigest() == row["sha256"]


def test_every_reason_has_a_gallery_of_samples_that_it_drops(curated: Curated) -> None:
    reasons = {
        (shard, row["key"]): row["reasons"]
        for shard in SHARDS
        for row in read_table(
            curated.output, curated.artifacts.selection(shard), SELECTION
        ).to_pylist()
    }
    counts = Counter(
        "quarantined" if reason.startswith("quarantined") else reason
        for several in reasons.values()
        for reason in several
    )
    report = make_report(curated.recipe)
    galleries = {gallery.title: gallery.pictures for gallery in report.galleries}
    for reason in counts:
        (title,) = [t for t in galleries if t.startswith(f"Dropped: {reason} (")]
        assert galleries[title]
        for picture in galleries[title]:
            assert reason in picture.note
            assert picture.note == "; ".join(reasons[picture.shard, picture.key])


def test_best_and_worst_are_the_ends_of_the_scores(curated: Curated) -> None:
    values = [
        value
        for shard in SHARDS
        for value in read_table(curated.output, curated.artifacts.scores(shard), SCORES)[
            "sharpness_probe"
        ].to_pylist()
        if value is not None
    ]
    report = make_report(curated.recipe)
    galleries = {gallery.title: gallery.pictures for gallery in report.galleries}
    best = [p.note for p in galleries["sharpness_probe: highest, the best"]]
    worst = [p.note for p in galleries["sharpness_probe: lowest, the worst"]]
    assert best == [f"{value:.4g}" for value in sorted(values, reverse=True)[: len(best)]]
    assert worst == [f"{value:.4g}" for value in sorted(values)[: len(worst)]]


def test_groups_of_copies_are_those_of_the_tables_the_largest_first(
    curated: Curated,
) -> None:
    groups = defaultdict(set)
    for shard in SHARDS:
        path = curated.artifacts.duplicates(shard)
        for row in read_table(curated.output, path, DUPLICATES).to_pylist():
            survivor = row["survivor_shard"], row["survivor_key"]
            groups[survivor].add((shard, row["key"]))
    report = make_report(curated.recipe)
    assert report.num_groups == len(groups) == len(report.groups)
    for group in report.groups:
        expected = groups[group.stays.shard, group.stays.key]
        assert {(copy.shard, copy.key) for copy in group.copies} == expected
        assert group.num_copies == len(expected)
        assert {copy.note for copy in group.copies} == {"identical"}
    sizes = [group.num_copies for group in report.groups]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_of_a_sample_that_stays_and_is_dropped_otherwise_the_reason_is_told(
    curated: Curated,
) -> None:
    curated.edit("caption_words >= 1", "caption_words >= 999")
    for group in make_report(curated.recipe).groups:
        assert group.stays.note == "stays of these; dropped: caption_words >= 999"


def test_a_score_without_a_threshold_has_a_histogram_too(curated: Curated) -> None:
    curated.edit("sharpness_probe >= 0.2", "top_fraction(sharpness_probe, 0.5)")
    report = make_report(curated.recipe)
    (found,) = [h for h in report.histograms if h.title == "sharpness_probe"]
    rows = sum(
        pq.read_metadata(curated.output.root / curated.artifacts.scores(shard)).num_rows
        for shard in SHARDS
    )
    assert found.counts.sum() + found.num_missing == rows
