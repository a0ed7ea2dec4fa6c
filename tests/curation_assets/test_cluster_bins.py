"""The comparisons as runs of their own, one bin each, against one run that does it all."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from curation.dedup import semantic, upkeep
from curation.tables import DUPLICATES, read_table
from curation_assets.partitions import CLUSTER_BINS, SHARDS
from jobs.asset_definitions import asset_definitions
from jobs.curate import curate, run_error
from resources.progress import LineProgress
from tests.conftest import Curated

BINS = dg.AssetKey("cluster_bins")


@pytest.fixture
def comparing(curated: Curated, monkeypatch: pytest.MonkeyPatch) -> Curated:
    """Compare embeddings in cells of some 16 rows, and in several bins."""
    monkeypatch.setattr(semantic, "ROWS_IN_ONE_CELL", 16)
    monkeypatch.setattr(upkeep, "ROWS_PER_BIN", 30)
    curated.edit("machine:", "duplicates: {min_similarity: 0.95}\nmachine:")
    return curated


def made(
    curated: Curated,
    instance: dg.DagsterInstance,
    asset: str,
    partition: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    progress = LineProgress(print)
    definitions = asset_definitions(curated.recipe, progress=progress)
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        partition_key=partition,
        run_config={"ops": {asset: {"config": config}}} if config else None,
        raise_on_error=False,
    )


def metadata(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None and event.asset_materialization is not None
    return {k: v.value for k, v in event.asset_materialization.metadata.items()}


def bins(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions(CLUSTER_BINS.name or ""))


def times_recorded(instance: dg.DagsterInstance) -> dict[str, int]:
    counts = instance.get_materialized_partitions(BINS)
    return {
        key: len(
            instance.fetch_materializations(
                dg.AssetRecordsFilter(BINS, asset_partitions=[key]), limit=10
            ).records
        )
        for key in sorted(counts)
    }


def duplicates(curated: Curated) -> list[dict[str, Any]]:
    return [
        row
        for shard in ("00000", "train/00001", "train/00002")
        for row in read_table(
            curated.output, curated.artifacts.duplicates(shard), DUPLICATES
        ).to_pylist()
    ]


def test_bins_compared_by_runs_of_their_own_give_what_one_run_gives(
    comparing: Curated, instance: dg.DagsterInstance
) -> None:
    assert made(comparing, instance, "centroids").success
    told = metadata(instance, "centroids")
    assert told["bins"] == len(bins(instance)) > 2
    assert told["new_shards"] == 3
    for key in reversed(bins(instance)):
        assert made(comparing, instance, "cluster_bins", key).success
    curate(comparing.recipe, LineProgress(print), instance=instance)
    assert set(times_recorded(instance).values()) == {1}
    found = duplicates(comparing)
    assert {row["kind"] for row in found} == {"exact", "semantic"}

    result = made(comparing, instance, "centroids", config={"refit": True})
    assert result.success and metadata(instance, "centroids")["new_shards"] == 3
    for shard in ("00000", "train/00001", "train/00002"):
        comparing.output.delete(comparing.artifacts.duplicates(shard))
    curate(comparing.recipe, LineProgress(print), instance=instance)
    assert set(times_recorded(instance).values()) == {2}
    assert duplicates(comparing) == found


def test_what_one_run_does_is_on_record_and_nothing_is_stale(
    comparing: Curated, instance: dg.DagsterInstance
) -> None:
    curate(comparing.recipe, LineProgress(print), instance=instance)
    assert sorted(times_recorded(instance)) == bins(instance)
    graph = asset_definitions(comparing.recipe).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    assert resolver.get_status(dg.AssetKey("centroids")) == StaleStatus.FRESH
    assert resolver.get_status(dg.AssetKey("duplicate_groups")) == StaleStatus.FRESH
    for key in bins(instance):
        assert resolver.get_status(BINS, key) == StaleStatus.FRESH
    for shard in instance.get_dynamic_partitions(SHARDS.name or ""):
        status = resolver.get_status(dg.AssetKey("duplicates"), shard)
        assert status == StaleStatus.FRESH


def test_a_bin_without_cells_says_what_to_do(
    comparing: Curated, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(CLUSTER_BINS.name or "", ["00000"])
    done = made(comparing, instance, "cluster_bins", "00000")
    assert not done.success
    assert "materialize centroids first" in str(run_error(done))
