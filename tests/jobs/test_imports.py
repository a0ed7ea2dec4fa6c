"""What is due to be imported, and what an import makes due: real runs, server and files."""

import tarfile
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation.errors import InputError, StorageError
from curation.recipe import Recipe
from curation_assets import failures, imports
from curation_assets.imports import input_version
from curation_assets.lineage import VERSIONS, Lineage
from jobs.arrivals import find_arrivals
from jobs.imports import INPUT_CHANGED, bring_imports, due_imports
from jobs.plan import NEW
from resources.progress import LineProgress
from tests.curation.ingest.web_server import photograph
from tests.import_world import ImportWorld, materialized

PHOTOS = ["photos/00000", "photos/00001"]
WEB = ["web/00000", "web/00001"]


def causes(world: ImportWorld, instance: dg.DagsterInstance) -> dict[str, str]:
    return {due.name: due.cause for due in due_imports(instance, Lineage(world.recipe))}


def remade(world: ImportWorld, instance: dg.DagsterInstance) -> list[str]:
    """Bring what is due; name the imports and the shards that were recorded by that."""
    assets = ("imported_images", "imported_urls", "raw_shard")
    before = len(materialized(instance, *assets))
    assert not world.bring(instance).failed
    return list(materialized(instance, *assets))[before:]


def test_inputs_are_imported_then_their_shards_recorded_and_nothing_twice(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    assert causes(importing, import_records) == {"photos": NEW, "web": NEW}
    assert remade(importing, import_records) == ["photos", "web", *PHOTOS, *WEB]
    assert import_records.get_dynamic_partitions("shards") == [*PHOTOS, *WEB]
    assert causes(importing, import_records) == {}
    assert remade(importing, import_records) == []


def test_of_a_list_that_changed_only_the_shards_concerned_are_made_again(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    importing.bring(import_records)
    importing.list_urls("/image/4", "/flaky/5", "/image/6", "/image/7", "/image/8")
    assert causes(importing, import_records) == {"web": INPUT_CHANGED}
    assert remade(importing, import_records) == ["web", "web/00001", "web/00002"]


def test_of_a_folder_that_changed_only_the_shards_concerned_are_made_again(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    importing.bring(import_records)
    importing.add_photos(0)
    (importing.folder / "photos" / "3.jpg").unlink()
    assert causes(importing, import_records) == {"photos": INPUT_CHANGED}
    assert remade(importing, import_records) == ["photos", "photos/00001"]
    with tarfile.open(importing.folder / "raw" / "photos" / "00001.tar") as tar:
        image = tar.extractfile("000011.jpg")
        assert image and image.read() == photograph(0)
        assert tar.getnames() == ["000011.jpg", "000011.json"]


def test_urls_that_failed_are_fetched_again_only_when_asked_for(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    importing.bring(import_records)
    importing.server.mended = True
    importing.server.asked.clear()
    assert remade(importing, import_records) == []
    before = len(materialized(import_records, "raw_shard"))
    importing.bring(import_records, retry=True)
    assert dict(importing.server.asked) == {"/flaky/5": 1}
    assert list(materialized(import_records, "raw_shard"))[before:] == ["web/00000"]
    importing.bring(import_records, retry=True)
    assert dict(importing.server.asked) == {"/flaky/5": 1}


def test_tars_that_are_gone_are_imported_again(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    importing.bring(import_records)
    before = importing.source.read("photos/00000.tar")
    importing.source.delete("photos/00000.tar")
    assert causes(importing, import_records) == {"photos": "1 of its 2 tars are gone"}
    assert remade(importing, import_records) == ["photos", "photos/00000"]
    assert importing.source.read("photos/00000.tar") == before


def test_settings_and_code_that_changed_are_told_but_not_what_changes_nothing(
    importing: ImportWorld,
    import_records: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    importing.bring(import_records)
    importing.edit("allow_private", "concurrency: 2, allow_private")
    assert causes(importing, import_records) == {}
    importing.edit("concurrency: 2", "timeout_seconds: 20")
    importing.edit("samples_per_shard: 2}", "samples_per_shard: 3}")
    assert causes(importing, import_records) == {
        "photos": "samples_per_shard 2 -> 3",
        "web": "timeout_seconds 30.0 -> 20.0",
    }
    assert remade(importing, import_records) == ["photos", "web", "photos/00000"]
    monkeypatch.setitem(VERSIONS, "imported_urls", 2)
    code = "its code changed from version 1 to 2"
    assert causes(importing, import_records) == {"web": code}


def test_an_import_that_fails_costs_itself_alone(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "list.csv").unlink()
    assert "list.csv" in causes(importing, import_records)["web"]
    result = importing.bring(import_records)
    assert list(result.failed) == ["web"]
    assert materialized(import_records, "raw_shard") == PHOTOS
    importing.list_urls("/image/4")
    assert remade(importing, import_records) == ["web", "web/00000"]
    importing.list_urls("/image/9")
    assert "not of this list" in importing.bring(import_records).failed["web"]


def test_an_import_that_storage_failed_is_tried_again_and_then_did_not_fail(
    importing: ImportWorld,
    import_records: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [StorageError("away")]

    def flaky(*asked: Any) -> str:
        if answers:
            raise answers.pop()
        return input_version(*asked)

    monkeypatch.setattr(imports, "input_version", flaky)
    monkeypatch.setattr(failures, "SECONDS_BEFORE_RETRY", 0)
    assert remade(importing, import_records) == ["photos", "web", *PHOTOS, *WEB]


def test_where_nothing_could_be_imported_the_reasons_are_told(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    for file in (importing.folder / "photos").iterdir():
        file.unlink()
    (importing.folder / "list.csv").write_text("link\n")
    with pytest.raises(InputError, match=r"photos: .*no image[^\n]*\n  web: .*'url'"):
        importing.bring(import_records)


def test_a_recipe_without_imports_opens_neither_records_nor_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "absent"))
    recipe = Recipe(name="none", source=str(tmp_path / "no"), output=str(tmp_path / "o"))
    assert bring_imports(recipe, LineProgress(print)).num_runs == 0


def test_a_source_without_shards_is_no_mistake_before_the_first_import(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    assert find_arrivals(import_records, importing.recipe).tars == {}
    importing.source.write("by-hand.tar", bytes(1024))
    assert list(find_arrivals(import_records, importing.recipe).tars) == ["by-hand"]


def test_imported_tars_need_no_marker(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    recipe = importing.recipe.model_copy(update={"complete_when": "marked"})
    for shard in ("photos/00000", "web/00000", "by-hand"):
        importing.source.write(f"{shard}.tar", bytes(1024))
    assert find_arrivals(import_records, recipe).waiting == ("by-hand",)
