"""The duplicates of one shard, as recorded."""

import dagster as dg
import pyarrow as pa

from curation.tables import DUPLICATES
from curation_assets.duplicates import described
from curation_assets.shard_asset import made_from, recorded_versions
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated


def test_the_version_on_record_is_that_of_the_table(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        recorded = recorded_versions(instance, "duplicates")
    assert recorded == {
        shard: made_from(curated.output, curated.artifacts.duplicates(shard))
        for shard in ("00000", "train/00001", "train/00002")
    }


def test_a_shard_that_was_not_compared_is_refused(curated: Curated) -> None:
    curated.output.delete(curated.artifacts.duplicates("00000"))
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    with open_instance(curated.recipe) as instance:
        done = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("duplicates")],
            partition_key="00000",
            raise_on_error=False,
        )
    (failure,) = [e.step_failure_data for e in done.all_events if e.is_step_failure]
    assert "materialize duplicate_groups first" in str(failure)


def test_kinds_are_counted() -> None:
    rows = [
        {
            "key": key,
            "survivor_shard": "s",
            "survivor_key": "k",
            "kind": kind,
            "similarity": 1,
        }
        for key, kind in (("a", "exact"), ("b", "semantic"), ("c", "exact"))
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema(DUPLICATES.columns))
    metadata = described(table)
    assert metadata["removed"] == 3
    counts = {r.data["kind"]: r.data["samples"] for r in metadata["kinds"].records}
    assert counts == {"exact": 2, "semantic": 1}
