"""What a report shows of a curated dataset."""

import hashlib
from collections import Counter

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
    shown += [picture for pair in report.copies for picture in pair]
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


def test_copies_stand_beside_what_is_kept_for_them(curated: Curated) -> None:
    twins = {
        (shard, row["key"]): (row["survivor_shard"], row["survivor_key"])
        for shard in SHARDS
        for row in read_table(
            curated.output, curated.artifacts.duplicates(shard), DUPLICATES
        ).to_pylist()
    }
    report = make_report(curated.recipe)
    assert report.copies
    for copy, kept in report.copies:
        assert twins[copy.shard, copy.key] == (kept.shard, kept.key)


def test_a_score_without_a_threshold_has_a_histogram_too(curated: Curated) -> None:
    curated.edit("sharpness_probe >= 0.2", "top_fraction(sharpness_probe, 0.5)")
    report = make_report(curated.recipe)
    (found,) = [h for h in report.histograms if h.title == "sharpness_probe"]
    rows = sum(
        pq.read_metadata(curated.output.root / curated.artifacts.scores(shard)).num_rows
        for shard in SHARDS
    )
    assert found.counts.sum() + found.num_missing == rows
