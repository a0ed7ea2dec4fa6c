"""Cells are fitted once, and again only when someone asks."""

from typing import Any

import dagster as dg

from curation.tables import CENTROIDS, read_table
from curation_assets.centroids import compared_folder
from curation_assets.lineage import Lineage
from curation_assets.partitions import CLUSTER_BINS
from tests.conftest import Curated
from tests.curation_assets.conftest import Make


def told(instance: dg.DagsterInstance) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey("centroids"))
    assert event is not None and event.asset_materialization is not None
    return {k: v.value for k, v in event.asset_materialization.metadata.items()}


def test_bins_of_cells_become_partitions(
    comparing: Curated, instance: dg.DagsterInstance, make: Make
) -> None:
    instance.add_dynamic_partitions(CLUSTER_BINS.name or "", ["of another fit"])
    assert make("centroids").success
    path = f"{compared_folder(Lineage(comparing.recipe))}/centroids.parquet"
    table = read_table(comparing.output, path, CENTROIDS)
    numbers = sorted(set(table["bin"].to_pylist()))
    assert len(numbers) > 2
    keys = instance.get_dynamic_partitions(CLUSTER_BINS.name or "")
    assert [int(key) for key in keys] == numbers
    assert told(instance)["cells"] == table.num_rows


def test_cells_stay_unless_they_are_to_be_fitted_anew(
    instance: dg.DagsterInstance, make: Make
) -> None:
    for config, new in [({}, 3), ({}, 0), ({"refit": True}, 3)]:
        assert make("centroids", **config).success
        assert told(instance)["new_shards"] == new
