"""One run, many shards: what Dagster records, with a crash, a failure and a retry.

These tests pin the private behaviour of Dagster that ``shard_asset`` rests on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from curation.errors import CurationError, DataError, StorageError
from curation.recipe import Recipe
from curation.storage import MemoryStorage
from curation_assets.lineage import Lineage
from curation_assets.partitions import SHARDS
from curation_assets.shard_asset import (
    AssetEvents,
    ShardTask,
    one_by_one,
    record_shards,
    recorded_versions,
    shard_asset_options,
    shard_tasks,
)
from resources.progress import LineProgress, Progress

LINEAGE = Lineage(Recipe(name="test", source="/nowhere", output="/nowhere"))
KEYS = ["a/0", "a/1", "b/0", "b/1"]


class Chain:
    """raw_shard -> shard_index -> embeddings, whose artifacts are entries of a dict."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], str] = {}
        self.log: list[str] = []
        self.errors: dict[tuple[str, str], BaseException] = {}
        self.output = MemoryStorage()

    def definitions(self, lineage: Lineage = LINEAGE) -> dg.Definitions:
        assets = [
            self._asset(lineage, n) for n in ("raw_shard", "shard_index", "embeddings")
        ]
        return dg.Definitions(
            assets,
            resources={"progress": LineProgress(self.log.append)},
            executor=dg.in_process_executor,
        )

    def _asset(self, lineage: Lineage, name: str) -> dg.AssetsDefinition:
        def make(task: ShardTask) -> dict[str, Any]:
            self.log.append(f"{name} {task.shard}")
            if error := self.errors.get((name, task.shard)):
                raise error
            self.made[name, task.shard] = task.fingerprint
            return {"samples": 10}

        def find(task: ShardTask) -> dict[str, Any] | None:
            there = self.made.get((name, task.shard)) == task.fingerprint
            return {"samples": 10} if there else None

        @dg.asset(**shard_asset_options(lineage, name))
        def asset(
            context: dg.AssetExecutionContext, progress: dg.ResourceParam[Progress]
        ) -> AssetEvents:
            yield from record_shards(
                context,
                progress,
                shard_tasks(context, lineage, self.output),
                one_by_one(make),
                find,
            )

        return asset


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        assert SHARDS.name
        instance.add_dynamic_partitions(SHARDS.name, KEYS)
        yield instance


def run(
    chain: Chain,
    instance: dg.DagsterInstance,
    first: str = KEYS[0],
    last: str = KEYS[-1],
    assets: Sequence[str] = ("raw_shard", "shard_index", "embeddings"),
    lineage: Lineage = LINEAGE,
) -> dg.ExecuteInProcessResult:
    job = chain.definitions(lineage).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in assets],
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
        raise_on_error=False,
    )


def events_of(instance: dg.DagsterInstance, asset: str) -> list[tuple[str | None, str]]:
    """Every materialization event: its partition and data version, oldest first."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    events = [record.asset_materialization for record in reversed(records)]
    return [(e.partition, (e.tags or {})["dagster/data_version"]) for e in events if e]


def stale_status(
    chain: Chain, instance: dg.DagsterInstance, asset: str, shard: str, lineage: Lineage
) -> StaleStatus:
    graph = chain.definitions(lineage).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(
        instance, graph, loading_context=LoadingContextForTest(instance)
    )
    return resolver.get_status(dg.AssetKey(asset), shard)


def test_a_range_records_one_event_per_shard_and_asset(
    instance: dg.DagsterInstance,
) -> None:
    chain = Chain()
    assert run(chain, instance).success
    for asset in ("raw_shard", "shard_index", "embeddings"):
        assert [shard for shard, _ in events_of(instance, asset)] == KEYS


def test_each_shard_has_the_data_version_of_its_artifact(
    instance: dg.DagsterInstance,
) -> None:
    chain = Chain()
    run(chain, instance)
    for asset in ("raw_shard", "shard_index", "embeddings"):
        made = {shard: v for (name, shard), v in chain.made.items() if name == asset}
        assert (
            dict(events_of(instance, asset)) == made == recorded_versions(instance, asset)
        )


def test_a_data_version_does_not_depend_on_the_run_it_was_made_in() -> None:
    together, alone = Chain(), Chain()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shards", KEYS)
        run(together, instance)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shards", KEYS)
        for key in KEYS:
            run(alone, instance, key, key)
    assert together.made == alone.made


def test_what_is_there_already_is_recorded_again_but_not_made_again(
    instance: dg.DagsterInstance,
) -> None:
    chain = Chain()
    run(chain, instance)
    before = recorded_versions(instance, "embeddings")
    chain.log.clear()
    assert run(chain, instance).success
    assert chain.log == []
    assert recorded_versions(instance, "embeddings") == before
    newest = instance.get_latest_materialization_event(dg.AssetKey("embeddings"))
    assert newest and newest.asset_materialization
    assert newest.asset_materialization.metadata["cached"].value is True


def test_a_shard_that_fails_costs_itself(instance: dg.DagsterInstance) -> None:
    chain = Chain()
    chain.errors["embeddings", "a/1"] = DataError("a/1.tar is bad")
    result = run(chain, instance)
    assert not result.success
    assert [shard for shard, _ in events_of(instance, "embeddings")] == [
        "a/0",
        "b/0",
        "b/1",
    ]
    failure = result.failure_data_for_node("embeddings")
    assert failure and failure.error and "a/1: a/1.tar is bad" in str(failure.error)


def test_storage_that_comes_back_is_asked_again_for_what_is_missing_only(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation_assets.failures.SECONDS_BEFORE_RETRY", 0)
    chain = Chain()
    chain.errors["embeddings", "b/0"] = StorageError("not now")

    class Recovering(dict[tuple[str, str], BaseException]):
        def get(self, *args: Any) -> Any:
            return self.pop(*args, None)

    chain.errors = Recovering(chain.errors)
    assert run(chain, instance).success
    assert [entry for entry in chain.log if entry.startswith("embeddings ")] == [
        "embeddings a/0",
        "embeddings a/1",
        "embeddings b/0",
        "embeddings b/1",
        "embeddings b/0",
    ]
    assert sorted(shard for shard, _ in events_of(instance, "embeddings")) == KEYS


def test_a_crash_keeps_the_shards_recorded_before_it(instance: dg.DagsterInstance) -> None:
    chain = Chain()
    chain.errors["embeddings", "b/0"] = KeyboardInterrupt()
    assert not run(chain, instance).success
    assert [shard for shard, _ in events_of(instance, "embeddings")] == ["a/0", "a/1"]


def test_nothing_is_stale_after_a_run(instance: dg.DagsterInstance) -> None:
    chain = Chain()
    run(chain, instance)
    for asset in ("raw_shard", "shard_index", "embeddings"):
        for key in KEYS:
            status = stale_status(chain, instance, asset, key, LINEAGE)
            assert status == StaleStatus.FRESH


def test_another_setting_makes_its_asset_stale_and_no_other(
    instance: dg.DagsterInstance,
) -> None:
    chain = Chain()
    run(chain, instance)
    recipe = LINEAGE.recipe.model_copy(
        update={"encoder": LINEAGE.recipe.encoder.model_copy(update={"precision": "bf16"})}
    )
    status = {
        asset: stale_status(chain, instance, asset, "a/1", Lineage(recipe))
        for asset in ("raw_shard", "shard_index", "embeddings")
    }
    assert status == {
        "raw_shard": StaleStatus.FRESH,
        "shard_index": StaleStatus.FRESH,
        "embeddings": StaleStatus.STALE,
    }


def test_a_new_version_of_one_shard_makes_that_shard_stale_below(
    instance: dg.DagsterInstance,
) -> None:
    chain = Chain()
    run(chain, instance)
    replaced = dg.AssetMaterialization(
        "raw_shard", partition="b/0", tags={"dagster/data_version": "replaced"}
    )
    instance.report_runless_asset_event(replaced)
    stale = {
        key: stale_status(chain, instance, "shard_index", key, LINEAGE) for key in KEYS
    }
    assert [key for key in KEYS if stale[key] == StaleStatus.STALE] == ["b/0"]
    assert run(chain, instance, "b/0", "b/0", ["shard_index", "embeddings"]).success
    assert stale_status(chain, instance, "shard_index", "b/0", LINEAGE) == StaleStatus.FRESH


def test_an_input_that_was_never_made_is_named(instance: dg.DagsterInstance) -> None:
    result = run(Chain(), instance, assets=["shard_index"])
    failure = result.failure_data_for_node("shard_index")
    assert failure and failure.error
    assert "shard_index needs raw_shard" in str(failure.error)
    assert "the first being a/0; materialize raw_shard first" in str(failure.error)


def test_a_range_in_the_wrong_order_is_a_failure(instance: dg.DagsterInstance) -> None:
    result = run(Chain(), instance, first="b/1", last="a/0")
    failure = result.failure_data_for_node("raw_shard")
    assert failure and failure.error and "swap them" in str(failure.error)


def test_errors_of_this_package_only_cost_their_shard(instance: dg.DagsterInstance) -> None:
    chain = Chain()
    chain.errors["raw_shard", "a/0"] = CurationError("known")
    run(chain, instance)
    assert len(events_of(instance, "raw_shard")) == 3
    chain = Chain()
    chain.errors["raw_shard", "a/0"] = ZeroDivisionError("a fault of ours")
    result = run(chain, instance)
    failure = result.failure_data_for_node("raw_shard")
    assert failure and failure.error and "ZeroDivisionError" in str(failure.error)
