"""The versions of inputs, and what is recorded of an import whatever it is of."""

import dagster as dg
import pytest

from curation.recipe import Recipe
from curation_assets.imports import input_version, reason_table
from curation_assets.lineage import Lineage
from tests.import_world import ImportWorld, materialize, materialized

NAMES = {"photos": "imported_images", "web": "imported_urls"}


def version(recipe: Recipe, name: str) -> str:
    return input_version(Lineage(recipe), NAMES[name], name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("web", "list.csv"),
        ("photos", "photos/3.jpg"),
        ("photos", "photos/below/another.txt"),
    ],
)
def test_the_version_of_an_input_is_that_of_its_files(
    importing: ImportWorld, name: str, change: str
) -> None:
    before = {name: version(importing.recipe, name) for name in NAMES}
    file = importing.folder / change
    file.parent.mkdir(exist_ok=True)
    file.write_text("something else")
    after = {name: version(importing.recipe, name) for name in NAMES}
    assert {name for name in NAMES if before[name] != after[name]} == {name}


def test_of_a_list_of_images_the_list_counts_and_not_the_images(
    importing: ImportWorld,
) -> None:
    (importing.folder / "some.csv").write_text("path\nphotos/1.jpg\n")
    recipe = importing.edit("folder: photos", "list: some.csv")
    before = version(recipe, "photos")
    importing.add_photos(4)
    assert version(recipe, "photos") == before
    (importing.folder / "some.csv").write_text("path\nphotos/1.jpg\nphotos/4.jpg\n")
    assert version(recipe, "photos") != before


def test_what_is_recorded_is_the_version_from_before_the_import(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    expected = version(importing.recipe, "photos")
    materialize(importing, import_records, "imported_images", "photos")
    record = import_records.get_latest_data_version_record(
        dg.AssetKey("imported_images"), False, "photos"
    )
    assert record and record.event_log_entry.tags["dagster/data_version"] == expected


def test_an_imports_shards_become_partitions(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    materialize(importing, import_records, "imported_images", "photos")
    found = import_records.get_dynamic_partitions("shards")
    assert found == ["photos/00000", "photos/00001"]


def test_an_import_that_fails_is_not_recorded(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "raw" / "web").mkdir(parents=True)
    (importing.folder / "raw" / "web" / "mine.tar").write_bytes(b"")
    done = materialize(importing, import_records, "imported_urls", "web")
    (failure,) = done.filter_events(lambda event: event.is_step_failure)
    told = failure.step_failure_data.user_failure_data
    assert told and told.description and "mine.tar is not of this list" in told.description
    assert not materialized(import_records, "imported_urls")


def test_an_input_that_can_not_be_looked_at_fails_with_the_reason(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "list.csv").unlink()
    done = materialize(importing, import_records, "imported_urls", "web")
    (failure,) = done.filter_events(lambda event: event.is_step_failure)
    told = failure.step_failure_data.user_failure_data
    assert (
        told and told.description and "list.csv: there is no such file" in told.description
    )


def test_rare_reasons_are_counted_together() -> None:
    counts = {f"reason {number}": 100 - number for number in range(30)}
    rows = [record.data for record in reason_table(counts).records]
    assert rows[0] == {"reason": "10 other reasons", "samples": sum(range(71, 81))}
    assert len(rows) == 21
    assert sum(int(row["samples"] or 0) for row in rows) == sum(counts.values())
