"""Several run workers at once on a real PostgreSQL make what one process makes."""

import multiprocessing
import os
from pathlib import Path

import dagster as dg
import pytest

from curation_assets.lineage import GLOBAL_ASSETS, Lineage
from jobs.attempts import RANGE_END, RANGE_START
from jobs.curate import curate
from jobs.instance import open_instance
from resources.progress import LineProgress
from tests.conftest import ROOT, Curated
from tests.deploy.conftest import SHARDS, files_of, home_with, one_thread

CHOSEN = ["a/00000..a/00002", "b/00003..b/00005", "a/00001..b/00004"]
"""What each of the workers makes: the third one overlaps with both others."""


def work(recipe_file: Path, shards: str, environment: dict[str, str]) -> None:
    """Be one worker: make everything that is made of each shard alone."""
    from jobs.cli import main

    os.environ.update(environment)  # the server that forks may be older than the test
    with one_thread():
        main(["run", "-r", str(recipe_file), "--shards", shards, "--until", "scores"])


def test_workers_at_once_make_what_one_process_made_and_record_all_of_it(
    one_process: Curated,
    tmp_path: Path,
    postgres: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(
        one_process.recipe_file.read_text().replace("raw", str(one_process.source.root))
    )
    for name, value in postgres.items():
        monkeypatch.setenv(name, value)
    home = home_with(ROOT / "deploy/postgres/dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    workers = [start_worker(recipe_file, shards) for shards in CHOSEN]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    recipe = Curated(tmp_path).recipe
    curate(recipe, LineProgress(print))  # what compares all shards, and what follows

    assert files_of(tmp_path / "curated") == files_of(one_process.output.root)
    with open_instance(recipe) as instance:
        assert type(instance.event_log_storage).__module__.startswith("dagster_postgres")
        runs = instance.get_runs()
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        records = {run.run_id: recorded(instance, run) for run in runs}
    for run in runs:
        if RANGE_START in run.tags:
            assert records[run.run_id] == planned(run)
    made = {pair for record in records.values() for pair in record}
    assets = [a for a in Lineage(recipe).assets if a not in GLOBAL_ASSETS]
    assert made >= {(asset, shard) for asset in assets for shard in SHARDS}
    assert curate(recipe, LineProgress(print)).num_runs == 0


def start_worker(recipe_file: Path, shards: str) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jobs.app", "torch", "timm"])  # imported once for all
    worker = context.Process(target=work, args=(recipe_file, shards, dict(os.environ)))
    worker.start()
    return worker


def planned(run: dg.DagsterRun) -> list[tuple[str, str | None]]:
    """Give the assets and shards that a run was to make."""
    first, last = (SHARDS.index(run.tags[tag]) for tag in (RANGE_START, RANGE_END))
    assets = [key.to_user_string() for key in run.asset_selection or ()]
    return sorted((asset, shard) for asset in assets for shard in SHARDS[first : last + 1])


def recorded(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> list[tuple[str, str | None]]:
    """Give what a run's own log says it made, every event of it."""
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    made = [log.asset_materialization for log in logs]
    return sorted((m.asset_key.to_user_string(), m.partition) for m in made if m)
