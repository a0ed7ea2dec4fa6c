"""The pooled storage writes what Dagster's own writes, and either reads the other's."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from jobs.instance import open_instance
from jobs.sqlite_storage import MOST_ENGINES, PooledEventLog, PooledSqliteStorage
from tests.conftest import Curated

KEYS = dg.StaticPartitionsDefinition(["a", "b", "c"])
RANGE = {
    "dagster/asset_partition_range_start": "a",
    "dagster/asset_partition_range_end": "c",
}


@dg.asset(
    partitions_def=KEYS,
    code_version="1",
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("checked", asset="made")],
)
def made(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for key in context.partition_keys:
        yield dg.AssetMaterialization(
            "made", partition=key, metadata={"n": 1}, tags={"dagster/data_version": key}
        )
    yield dg.AssetCheckResult(passed=True)
    yield dg.MaterializeResult()


def open_home(home: Path, kind: type[DagsterSqliteStorage]) -> dg.DagsterInstance:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        f"storage: {{custom: {{module: {kind.__module__}, class: {kind.__name__}, "
        f"config: {{base_dir: '{home}'}}}}}}\n"
    )
    return dg.DagsterInstance.from_config(str(home))


def run(instance: dg.DagsterInstance) -> None:
    job = dg.Definitions([made]).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, tags=RANGE).success


def rows(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the databases, but for ids of runs, times and texts that hold them."""
    queries = {
        "event_logs": "select id, dagster_event_type, step_key, asset_key, partition",
        "asset_event_tags": "select event_id, asset_key, key, value",
        "asset_keys": "select id, asset_key, wipe_timestamp",
        "asset_check_executions": "select id, asset_key, check_name, execution_status",
    }
    found = {}
    for number, file in enumerate(sorted((home / "history" / "runs").glob("*.db"))):
        with sqlite3.connect(file) as database:
            for table, query in queries.items():
                found[f"{table} {number}"] = database.execute(
                    f"{query} from {table} order by id"
                    if table != "asset_event_tags"
                    else f"{query} from {table} order by event_id, key"
                ).fetchall()
        database.close()
    return found


def test_it_writes_the_rows_that_dagsters_own_storage_writes(tmp_path: Path) -> None:
    for kind in (DagsterSqliteStorage, PooledSqliteStorage):
        with open_home(tmp_path / kind.__name__, kind) as instance:
            run(instance)
    stock, pooled = (
        rows(tmp_path / kind.__name__)
        for kind in (DagsterSqliteStorage, PooledSqliteStorage)
    )
    assert pooled == stock
    assert len(stock["event_logs 0"]) > 10
    assert len(stock["asset_event_tags 1"]) + len(stock["asset_event_tags 0"]) >= 3


def test_dagsters_own_storage_goes_on_where_it_stopped_and_the_other_way(
    tmp_path: Path,
) -> None:
    for number, kind in enumerate(2 * (PooledSqliteStorage, DagsterSqliteStorage), 1):
        with open_home(tmp_path / "home", kind) as instance:
            run(instance)
            records = instance.fetch_materializations(made.key, limit=100).records
            assert len(records) == number * 6  # each key's own event, and the range's
            assert len(instance.get_runs()) == number


def test_an_event_is_there_for_another_process_as_soon_as_it_is_stored(
    tmp_path: Path,
) -> None:
    with (
        open_home(tmp_path / "home", PooledSqliteStorage) as writer,
        open_home(tmp_path / "home", PooledSqliteStorage) as reader,
    ):
        for number in range(3):
            writer.report_runless_asset_event(dg.AssetMaterialization("seen"))
            records = reader.fetch_materializations(dg.AssetKey("seen"), limit=9).records
            assert len(records) == number + 1


def test_threads_and_more_runs_than_connections_lose_no_event(tmp_path: Path) -> None:
    log = PooledEventLog(str(tmp_path))
    with open_home(tmp_path / "home", PooledSqliteStorage) as instance:

        def write() -> None:
            for _ in range(5):
                instance.report_runless_asset_event(dg.AssetMaterialization("shared"))

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        records = instance.fetch_materializations(dg.AssetKey("shared"), limit=99).records
        assert len(records) == 20
    for number in range(MOST_ENGINES + 2):
        assert log.get_logs_for_run(f"run-{number}") == []
    assert len(log.get_all_run_ids()) == MOST_ENGINES + 2
    log.dispose()


def test_the_checkouts_settings_name_it(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        assert isinstance(instance.event_log_storage, PooledEventLog)


def test_a_new_folder_can_be_opened_by_several_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def open_it(_: int) -> None:
        together.wait()
        PooledSqliteStorage(str(tmp_path)).dispose()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_it, range(4)))
    with open_home(tmp_path, PooledSqliteStorage) as instance:
        run(instance)
