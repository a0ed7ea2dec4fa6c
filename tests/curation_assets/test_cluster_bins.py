"""The comparisons as runs of their own, one bin each, against one run that does it all."""

from collections import Counter
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from curation.tables import DUPLICATES, read_table
from curation_assets.partitions import CLUSTER_BINS, SHARDS
from jobs.asset_definitions import asset_definitions
from jobs.curate import curate, run_error
from resources.progress import LineProgress
from tests.conftest import Curated
from tests.curation_assets.conftest import Make

BINS = dg.AssetKey("cluster_bins")
NAMES = ("00000", "train/00001", "train/00002")


def bins(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions(CLUSTER_BINS.name or ""))


def times_recorded(instance: dg.DagsterInstance) -> dict[str, int]:
    records = instance.fetch_materializations(BINS, limit=1000).records
    return dict(Counter(record.partition_key or "" for record in records))


def duplicates(curated: Curated) -> list[dict[str, Any]]:
    paths = map(curated.artifacts.duplicates, NAMES)
    tables = [read_table(curated.output, path, DUPLICATES) for path in paths]
    return [row for table in tables for row in table.to_pylist()]


def test_bins_compared_by_runs_of_their_own_give_what_one_run_gives(
    comparing: Curated, instance: dg.DagsterInstance, make: Make
) -> None:
    curate(comparing.recipe, LineProgress(print), instance=instance)
    found = duplicates(comparing)
    assert {row["kind"] for row in found} == {"exact", "semantic"}

    assert make("centroids", refit=True).success
    for name in NAMES:
        comparing.output.delete(comparing.artifacts.duplicates(name))
    for key in reversed(bins(instance)):
        assert make("cluster_bins", key).success
    curate(comparing.recipe, LineProgress(print), instance=instance)
    assert duplicates(comparing) == found
    # once by the groups, which found nothing more to compare the second time
    assert times_recorded(instance) == dict.fromkeys(bins(instance), 2)


def test_what_one_run_does_is_on_record_and_nothing_is_stale(
    comparing: Curated, instance: dg.DagsterInstance
) -> None:
    curate(comparing.recipe, LineProgress(print), instance=instance)
    assert times_recorded(instance) == dict.fromkeys(bins(instance), 1)
    graph = asset_definitions(comparing.recipe).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    shards = instance.get_dynamic_partitions(SHARDS.name or "")
    keys = [("centroids", None), ("duplicate_groups", None)]
    keys += [("cluster_bins", key) for key in bins(instance)]
    keys += [("duplicates", shard) for shard in shards]
    statuses = {key: resolver.get_status(dg.AssetKey(key[0]), key[1]) for key in keys}
    assert statuses == dict.fromkeys(keys, StaleStatus.FRESH)


def test_a_bin_without_cells_says_what_to_do(
    instance: dg.DagsterInstance, make: Make
) -> None:
    instance.add_dynamic_partitions(CLUSTER_BINS.name or "", ["00000"])
    done = make("cluster_bins", "00000")
    assert not done.success
    assert "materialize centroids first" in str(run_error(done))
