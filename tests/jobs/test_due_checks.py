"""Checks that a run did not come to are run by the next, and what they find is told."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pyarrow as pa

from curation.tables import SELECTION, read_about, read_table, write_table
from curation_assets.lineage import Lineage
from jobs.asset_definitions import asset_definitions
from jobs.due_checks import due_checks
from jobs.instance import open_instance
from tests.conftest import Curated
from tests.jobs.commands.conftest import run, run_json

__all__ = ["run", "run_json"]  # fixtures

SHARD = "train/00001"
NONE_DUE: dict[str, dict[str, str]] = {"selection": {}, "scores": {}}


def interrupt_selection(curated: Curated, instance: dg.DagsterInstance) -> None:
    """Make one shard's selection, and end before its check."""
    job = asset_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    alone = job.get_subset(
        asset_selection={dg.AssetKey("selection")}, asset_check_selection=set()
    )
    assert alone.execute_in_process(instance=instance, partition_key=SHARD).success


def spoil_selection(curated: Curated) -> None:
    path = curated.artifacts.selection(SHARD)
    table = read_table(curated.output, path, SELECTION)
    flipped = pa.array([not kept for kept in table["kept"].to_pylist()])
    table = table.set_column(1, SELECTION.columns[1], flipped)
    made_of = read_about(curated.output, path)["fingerprint"]
    write_table(curated.output, path, SELECTION, table, fingerprint=made_of)


def test_what_an_interrupted_run_did_not_check_is_checked_and_told_from_then_on(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    lineage = Lineage(curated.recipe)
    with open_instance(curated.recipe) as instance:
        assert due_checks(instance, lineage, ["00000", SHARD], NONE_DUE) == []
        curated.edit(">= 200", ">= 201")
        interrupt_selection(curated, instance)
        lineage = Lineage(curated.recipe)
        (due,) = due_checks(instance, lineage, ["00000", SHARD], NONE_DUE)
        assert due.shards == (SHARD,)
        assert {key.name for key in due.checks} == {"every_sample_is_decided"}
        assert due_checks(instance, lineage, ["00000"], NONE_DUE) == []
        made_later = {"selection": {SHARD: "new"}}
        assert due_checks(instance, lineage, [SHARD], made_later) == []
    spoil_selection(curated)
    command = ("run", "--recipe", curated.recipe_file, "--until", "selection")
    first = run_json(*command, code=5)
    again = run_json(*command, code=5)
    assert first["num_runs"] > again["num_runs"] == 0
    status = run_json("status", "--recipe", curated.recipe_file)
    for told in (first, again, status):
        (trouble, _) = told["troubles"][:2]
        assert (trouble["shard"], trouble["severity"]) == (SHARD, "wrong")
        assert "kept with a reason against" in trouble["what"]
    curated.output.delete(curated.artifacts.selection(SHARD))
    mended = run_json(*command)
    assert {t["severity"] for t in mended["troubles"]} <= {"note"}
