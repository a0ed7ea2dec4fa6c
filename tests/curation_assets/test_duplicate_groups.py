"""Copies among all shards, against a dictionary of hashes."""

from collections import defaultdict

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from curation.dedup.resolve import join_edges, resolve
from curation.dedup.rows import ordinals
from curation.errors import CurationError
from curation.release.manifest import read_samples_released
from curation.tables import (
    DUPLICATES,
    EMBEDDING,
    EMBEDDINGS,
    embedding_matrix,
    read_about,
    read_table,
    write_table,
)
from curation_assets import duplicate_groups
from curation_assets.duplicate_groups import RECALL_CHECK
from curation_assets.global_asset import recorded_made_of
from curation_assets.lineage import Lineage
from jobs.curate import curate
from jobs.instance import open_instance
from jobs.release import make_release
from resources.progress import LineProgress
from tests.conftest import Curated

GROUPS = dg.AssetKey("duplicate_groups")
SHARDS = ("00000", "train/00001", "train/00002")


def removed(curated: Curated) -> dict[tuple[str, str], tuple[str, str]]:
    found = {}
    for shard in SHARDS:
        path = curated.artifacts.duplicates(shard)
        for row in read_table(curated.output, path, DUPLICATES).to_pylist():
            found[shard, row["key"]] = (row["survivor_shard"], row["survivor_key"])
    return found


def copies(curated: Curated, column: str = "sha256") -> list[list[tuple[str, str]]]:
    by_hash = defaultdict(list)
    for shard in SHARDS:
        path = curated.artifacts.embeddings(shard)
        table = read_table(curated.output, path, EMBEDDINGS, ["key", "error", column])
        for row in table.to_pylist():
            if row["error"] is None:
                by_hash[row[column]].append((shard, row["key"]))
    return [group for group in by_hash.values() if len(group) > 1]


def test_of_every_group_of_copies_one_survives(curated: Curated) -> None:
    found, groups = removed(curated), copies(curated)
    assert len(groups) > 10
    assert set(found) == {sample for group in groups for sample in group if sample in found}
    for group in groups:
        survivors = [sample for sample in group if sample not in found]
        assert len(survivors) == 1
        assert {found[s] for s in group if s in found} == set(survivors)


def test_the_survivor_is_the_one_that_the_recipe_prefers(curated: Curated) -> None:
    for group in copies(curated):
        by_key = min(group, key=lambda sample: sample[1])
        assert by_key not in removed(curated)
    curated.edit("machine:", "duplicates: {prefer: [key desc]}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    for group in copies(curated):
        assert max(group, key=lambda sample: sample[1]) not in removed(curated)


def test_without_exact_duplicates_none_are_removed(curated: Curated) -> None:
    curated.edit("machine:", "duplicates: {exact: false}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    assert removed(curated) == {}


def test_what_the_groups_are_made_of_is_on_record(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        assert recorded_made_of(instance, "duplicate_groups")


@pytest.mark.parametrize("column", ["sharpness_probe", "caption_words"])
def test_scores_and_derived_columns_can_decide(curated: Curated, column: str) -> None:
    curated.edit("machine:", f"duplicates: {{prefer: [{column} desc, key desc]}}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    assert removed(curated)


def test_of_each_group_one_stays_that_the_filter_keeps_if_there_is_any(
    curated: Curated,
) -> None:
    groups = copies(curated)
    keys = sorted(key for group in groups for _, key in group)[1::2]
    curated.edit("sharpness_probe >= 0.2", f"key in {keys}")
    curated.edit("min(width, height) >= 200 and ", "")
    curated.edit(" and caption_words >= 1", "")
    prefer = "duplicates: {prefer: [passes_filter desc, key asc]}"
    curated.edit("machine:", f"{prefer}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    gone = removed(curated)
    mixed = 0
    for group in groups:
        passing = [sample for sample in group if sample[1] in keys]
        mixed += 0 < len(passing) < len(group)
        (stays,) = [sample for sample in group if sample not in gone]
        assert stays == min(passing or group, key=lambda sample: sample[1])
    assert mixed


def test_samples_that_show_the_same_are_copies_if_the_recipe_says_so(
    curated: Curated,
) -> None:
    settings = "images: {hash_pixels: true}\nduplicates: {exact: pixels}\n"
    curated.edit("machine:", f"{settings}machine:")
    curate(curated.recipe, LineProgress(print))
    groups = copies(curated, "pixel_sha256")
    assert sum(map(len, groups)) >= sum(map(len, copies(curated))) > 10
    gone = removed(curated)
    assert len(gone) == sum(len(group) - 1 for group in groups)
    assert all(len(set(group) - set(gone)) == 1 for group in groups)


@pytest.mark.parametrize("retract", [False, True])
def test_what_was_released_stays_unless_it_may_be_retracted(
    curated: Curated, retract: bool
) -> None:
    before = removed(curated)
    manifest = make_release(curated.recipe, LineProgress(print))
    assert manifest is not None
    rows = read_samples_released(curated.output, manifest).to_pylist()
    released = {(row["source_shard"], row["source_key"]) for row in rows}
    settings = f"{{prefer: [key desc], retract_released: {str(retract).lower()}}}"
    curated.edit("machine:", f"duplicates: {settings}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    after, of_released = removed(curated), 0
    for group in copies(curated):
        (stays,) = [sample for sample in group if sample not in after]
        (first,) = [sample for sample in group if sample not in before]
        of_released += first in released
        last = max(group, key=lambda sample: sample[1])
        assert stays == (first if first in released and not retract else last)
    assert of_released


def test_an_image_that_was_replaced_is_not_the_one_that_was_released(
    curated: Curated,
) -> None:
    assert make_release(curated.recipe, LineProgress(print)) is not None
    path = curated.artifacts.embeddings("00000")
    table = read_table(curated.output, path, EMBEDDINGS)
    about = read_about(curated.output, path)
    place = table.schema.get_field_index("sha256")
    others = pa.array(["another"] * len(table))
    table = table.set_column(place, table.schema.field(place), others)
    made_from = {name: about[name] for name in ("fingerprint", "encoder")}
    write_table(curated.output, path, EMBEDDINGS, table, **made_from)
    lineage = Lineage(curated.recipe)
    found = duplicate_groups._released(curated.output, lineage, SHARDS)
    assert set(ordinals(found).tolist()) == {1, 2}


SIMILAR = 0.95


def vectors_of(curated: Curated) -> dict[tuple[str, str], np.ndarray]:
    found = {}
    for shard in SHARDS:
        path = curated.artifacts.embeddings(shard)
        table = read_table(curated.output, path, EMBEDDINGS, ["key", EMBEDDING])
        rows, valid = embedding_matrix(table[EMBEDDING])
        for key, row, usable in zip(table["key"].to_pylist(), rows, valid, strict=True):
            if usable:
                found[shard, key] = row.astype(np.float32)
    return found


@pytest.fixture
def similar(curated: Curated) -> Curated:
    """Take samples with similar embeddings for copies."""
    curated.edit("machine:", f"duplicates: {{min_similarity: {SIMILAR}}}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    return curated


def test_every_similar_sample_that_goes_has_a_kept_twin(similar: Curated) -> None:
    vectors, gone = vectors_of(similar), removed(similar)
    kinds = [
        row
        for shard in SHARDS
        for row in read_table(
            similar.output, similar.artifacts.duplicates(shard), DUPLICATES
        ).to_pylist()
    ]
    assert {row["kind"] for row in kinds} == {"exact", "semantic"}
    for sample, survivor in gone.items():
        assert survivor not in gone
        assert vectors[sample] @ vectors[survivor] >= SIMILAR - 2e-3
    kept = [sample for sample in vectors if sample not in gone]
    rows = np.stack([vectors[sample] for sample in kept])
    cosines = rows @ rows.T - 2 * np.eye(len(rows))
    assert cosines.max() < SIMILAR + 2e-3


def test_the_estimated_recall_is_on_record(similar: Curated) -> None:
    with open_instance(similar.recipe) as instance:
        event = instance.get_latest_materialization_event(GROUPS)
        (check,) = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(GROUPS, RECALL_CHECK), limit=1
        )
    assert event is not None and event.asset_materialization is not None
    told = {k: v.value for k, v in event.asset_materialization.metadata.items()}
    kept = len(vectors_of(similar).keys() - removed(similar).keys())
    assert told["probed"] == kept  # so few that all were probed
    assert (told["missed_of_probed"], told["recall_low"], told["recall"]) == (0, 1, 1)
    assert check.status.value == "SUCCEEDED"


def test_where_too_few_were_found_nothing_is_recorded(
    curated: Curated, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = removed(curated)
    curated.edit("machine:", f"duplicates: {{min_similarity: {SIMILAR}}}\nmachine:")
    nothing = resolve(join_edges([]))
    monkeypatch.setattr(duplicate_groups, "find_duplicates", lambda *_, **__: nothing)
    for _ in range(2):  # no later run takes it for done
        with pytest.raises(CurationError, match=r"found .* checks\.min_recall is 99"):
            curate(curated.recipe, LineProgress(print))
    assert removed(curated) == before
    curated.edit("machine:", "checks: {min_recall: 0}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    assert removed(curated) == {}


def planted_near_copies(curated: Curated) -> pl.DataFrame:
    rows = pl.read_parquet(curated.folder / "raw" / "planted.parquet")
    return rows.filter(pl.col("kind").is_in(["near_copy_resize", "near_copy_quality"]))


def test_close_hashes_find_the_planted_near_copies_and_open_no_image(
    curated: Curated,
) -> None:
    tables = {f.path: f.version for f in curated.output.list_files("embeddings")}
    curated.edit("machine:", "duplicates: {max_hamming: 31}\nmachine:")
    curate(curated.recipe, LineProgress(print))
    assert {f.path: f.version for f in curated.output.list_files("embeddings")} == tables
    gone = removed(curated)
    near = planted_near_copies(curated)
    assert near.height == 15
    for row in near.iter_rows(named=True):
        pair = {(row["shard"], row["key"]), (row["twin_shard"], row["twin_key"])}
        assert pair & gone.keys(), row
    assert not gone.keys() & set(gone.values())
    hashes = hashes_of(curated)
    for sample, survivor in gone.items():
        if None not in (hashes[sample], hashes[survivor]):
            assert (hashes[sample] ^ hashes[survivor]).bit_count() <= 31
    number = len(gone)
    curated.edit("max_hamming: 31", "max_hamming: 0")
    curate(curated.recipe, LineProgress(print))
    assert len(removed(curated)) < number
    assert {f.path: f.version for f in curated.output.list_files("embeddings")} == tables


def hashes_of(curated: Curated) -> dict[tuple[str, str], int | None]:
    found = {}
    for shard in SHARDS:
        path = curated.artifacts.embeddings(shard)
        table = read_table(curated.output, path, EMBEDDINGS, ["key", "perceptual_hash"])
        for row in table.to_pylist():
            bits = row["perceptual_hash"]
            found[shard, row["key"]] = None if bits is None else int.from_bytes(bits)
    return found


def test_shards_that_come_later_give_the_same_answer(similar: Curated) -> None:
    expected = removed(similar)
    tar = similar.source.root / "train" / "00002.tar"
    for folder in ("compared", "duplicates"):
        for file in similar.output.list_files(folder):
            similar.output.delete(file.path)
    tar.rename(tar.with_suffix(".away"))
    curate(similar.recipe, LineProgress(print))
    tar.with_suffix(".away").rename(tar)
    curate(similar.recipe, LineProgress(print))
    assert removed(similar) == expected


def test_a_higher_threshold_compares_nothing_again(similar: Curated) -> None:
    before = {f.path: f.version for f in similar.output.list_files("compared")}
    number = len(removed(similar))
    similar.edit(str(SIMILAR), "0.99")
    curate(similar.recipe, LineProgress(print))
    assert {f.path: f.version for f in similar.output.list_files("compared")} == before
    assert len(removed(similar)) < number
