"""``imported_urls`` under a real Dagster instance: what it shows, retries and warns of."""

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from curation_assets.lineage import Lineage
from curation_assets.shard_asset import recorded_versions
from jobs.definitions import build_definitions
from tests.import_world import ImportWorld, materialize, materialized


def test_what_was_fetched_and_what_failed_is_shown(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    importing.list_urls("/image/4", "/flaky/5", "/image/6", "/absent")
    done = materialize(importing, import_records, "imported_urls", "web")
    (event,) = done.asset_materializations_for_node("imported_urls")
    shown = {name: entry.value for name, entry in event.metadata.items()}
    numbers = ("urls", "samples", "fetched", "failed", "shards")
    assert [shown[name] for name in numbers] == [4, 2, 2, 2, 2]
    records = event.metadata["failed_for"].records  # type: ignore[attr-defined]
    assert [record.data for record in records] == [
        {"reason": "HTTP status 404", "samples": 1},
        {"reason": "HTTP status 500", "samples": 1},
    ]
    assert shown["list"] == f"{importing.folder}/list.csv"


def test_made_again_it_fetches_what_failed(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    materialize(importing, import_records, "imported_urls", "web")
    importing.server.mended = True
    importing.server.asked.clear()
    materialize(importing, import_records, "imported_urls", "web")
    assert dict(importing.server.asked) == {"/flaky/5": 1}


@pytest.mark.parametrize(("most", "passes"), [(0.33, False), (0.34, True)])
def test_too_many_failures_are_warned_of(
    importing: ImportWorld, import_records: dg.DagsterInstance, most: float, passes: bool
) -> None:
    importing.edit("machine:", f"checks: {{max_failed_urls: {most}}}\nmachine:")
    done = materialize(importing, import_records, "imported_urls", "web")
    (check,) = done.get_asset_check_evaluations()
    assert check.passed == passes
    if not passes:
        assert check.severity == dg.AssetCheckSeverity.WARN
        assert "web: 1 of 3 URLs failed (33%)" in str(check.description)


def inputs(instance: dg.DagsterInstance, shard: str) -> dict[str, str]:
    """Give the tags of a raw shard's record that say what it was made of."""
    record = instance.get_latest_data_version_record(dg.AssetKey("raw_shard"), False, shard)
    tags = record.event_log_entry.tags if record else {}
    return {tag: version for tag, version in tags.items() if "input_data_ver" in tag}


def test_lineage_begins_at_the_imports_and_each_shard_names_its_own(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    (importing.folder / "raw").mkdir()
    (importing.folder / "raw" / "by-hand.tar").write_bytes(bytes(1024))
    importing.bring(import_records)
    graph = build_definitions(importing.recipe).resolve_asset_graph()
    imports = {dg.AssetKey("imported_images"), dg.AssetKey("imported_urls")}
    assert graph.get(dg.AssetKey("raw_shard")).parent_keys == imports
    versions = {
        f"dagster/input_data_version/{asset}": recorded_versions(import_records, asset)
        for asset in ("imported_images", "imported_urls")
    }
    for shard, (asset, name) in {
        "photos/00000": ("imported_images", "photos"),
        "web/00001": ("imported_urls", "web"),
    }.items():
        tag = f"dagster/input_data_version/{asset}"
        assert inputs(import_records, shard) == {tag: versions[tag][name]}
    assert inputs(import_records, "by-hand") == {}


def test_a_list_that_changed_makes_no_shard_stale_but_through_its_tar(
    importing: ImportWorld, import_records: dg.DagsterInstance
) -> None:
    importing.bring(import_records)
    importing.list_urls("/image/4", "/flaky/5", "/image/6", "/image/7")
    materialize(importing, import_records, "imported_urls", "web")
    graph = build_definitions(importing.recipe).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(
        import_records, graph, LoadingContextForTest(import_records)
    )
    for shard in ("web/00000", "web/00001", "photos/00000"):
        status = resolver.get_status(dg.AssetKey("raw_shard"), shard)
        assert status == StaleStatus.FRESH, shard
    importing.bring(import_records)
    assert materialized(import_records, "raw_shard")[4:] == ["web/00001"]


def test_there_are_import_assets_only_of_what_the_recipe_names(
    importing: ImportWorld,
) -> None:
    assert Lineage(importing.recipe).imports == ("imported_images", "imported_urls")
    text = importing.recipe_file.read_text()
    start, end = text.index("  images:"), text.index("  urls:")
    recipe = importing.edit(text[start:end], "")
    assert Lineage(recipe).imports == ("imported_urls",)
    assets = build_definitions(recipe).resolve_asset_graph().get_all_asset_keys()
    assert dg.AssetKey("imported_urls") in assets
    assert dg.AssetKey("imported_images") not in assets
