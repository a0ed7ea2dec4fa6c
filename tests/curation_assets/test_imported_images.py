"""``imported_images`` under a real Dagster instance, from local folders and from S3."""

import dagster as dg

from curation.storage import S3Storage
from tests.curation.ingest.web_server import photograph
from tests.import_world import ImportWorld, materialize


def test_what_was_imported_and_refused_is_shown(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "photos" / "page.jpg").write_text("<html>")
    done = materialize(importing, import_records, "imported_images", "photos")
    (event,) = done.asset_materializations_for_node("imported_images")
    shown = {name: entry.value for name, entry in event.metadata.items()}
    assert (shown["samples"], shown["shards"], shown["shards_written"]) == (3, 2, 2)
    assert shown["bytes"] == sum(len(photograph(number)) for number in (1, 2, 3))
    assert shown["url"] == f"{importing.folder}/raw/photos"
    (refused,) = event.metadata["refused_for"].records  # type: ignore[attr-defined]
    assert (shown["refused"], refused.data["samples"]) == (1, 1)
    assert "first images\n\n![" in str(shown["pictures"])
    assert shown["settings"] == {
        "folder": f"{importing.folder}/photos", "list": None, "samples_per_shard": 2,
    }  # fmt: skip


def test_a_list_names_files_of_its_own_folder_or_of_another(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    for recipe, path in (
        ("list: photos/some.csv", "2.jpg"),
        ("list: photos/some.csv, folder: .", "photos/2.jpg"),
    ):
        importing.edit("folder: photos", recipe)
        (importing.folder / "photos" / "some.csv").write_text(f"path,caption\n{path},two\n")
        assert materialize(importing, import_records, "imported_images", "photos").success
        importing.edit(recipe, "folder: photos")
        tar = importing.source.read("photos/00000.tar")
        assert photograph(2) in tar and b"two" in tar


def test_images_and_shards_can_be_in_s3(
    importing: ImportWorld, import_records: dg.DagsterInstance, s3_storage: S3Storage
) -> None:
    materialize(importing, import_records, "imported_images", "photos")
    for number in (1, 2, 3):
        s3_storage.write(f"photos/{number}.jpg", photograph(number))
    importing.edit("source: raw", f"source: {s3_storage.url}/raw")
    importing.edit("folder: photos", f"folder: {s3_storage.url}/photos")
    endpoint = s3_storage.settings.endpoint_url
    importing.edit("imports:", f"s3: {{endpoint_url: '{endpoint}'}}\nimports:")
    assert materialize(importing, import_records, "imported_images", "photos").success
    for tar in ("photos/00000.tar", "photos/00001.tar"):
        assert s3_storage.read(f"raw/{tar}") == importing.source.read(tar)
