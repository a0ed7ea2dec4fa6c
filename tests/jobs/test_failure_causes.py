"""The paragraph that says why a run failed, of real runs, and of one that was killed."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from jobs.definitions import build_definitions
from jobs.failure_causes import CAUSE, failure_cause
from jobs.instance import open_instance
from tests.conftest import Curated

SHARD = "train/00001"


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    with open_instance(curated.recipe) as instance:
        yield instance


def test_a_damaged_tar_is_named_on_the_page_of_its_run(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    tar = curated.source.root / f"{SHARD}.tar"
    tar.write_bytes(tar.read_bytes()[:100_000])  # after it was embedded
    curated.edit(">= 200", ">= 220")
    definitions = build_definitions(curated.recipe)
    done = definitions.resolve_job_def("rescore").execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "00000",
            "dagster/asset_partition_range_end": SHARD,
        },
        raise_on_error=False,
    )
    assert not done.success
    (end,) = [event for event in done.all_events if event.is_failure and not event.step_key]
    sensor = definitions.resolve_sensor_def("failure_causes")
    sensor(
        dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=end,
            dagster_instance=instance,
            dagster_run=done.dagster_run,
        ).for_run_failure()
    )
    records = instance.get_records_for_run(
        done.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT
    ).records
    event = records[-1].event_log_entry.dagster_event
    assert event and event.message
    told = event.message
    assert "filtered_shard: 1 shard(s) failed, the others are recorded:" in told
    assert f"{SHARD}: " in told and " 00000: " not in told
    assert "only what is missing is made" in told
    assert "\n" not in told
    after = instance.get_run_by_id(done.run_id)
    assert after and after.tags[CAUSE] == told[:100]


def test_a_run_that_was_killed_is_told_as_that(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "the process ended with signal 9")
    told = failure_cause(instance, run)
    assert "was killed, or ran out of memory" in told
    assert "the process ended with signal 9" in told


def test_a_fault_of_the_program_is_to_be_reported(instance: dg.DagsterInstance) -> None:
    @dg.op
    def divide() -> float:
        return 1 / 0

    @dg.job
    def faulty() -> None:
        divide()

    done = faulty.execute_in_process(instance=instance, raise_on_error=False)
    told = failure_cause(instance, done.dagster_run)
    assert told.startswith("divide: ZeroDivisionError: division by zero. ")
    assert "please report it" in told


def test_storage_that_stayed_away_is_named_and_no_fault(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation_assets.failures.SECONDS_BEFORE_RETRY", 0)
    from curation.errors import StorageError
    from curation_assets.failures import raise_for_shards

    @dg.op
    def read() -> None:
        raise_for_shards({f"s/{n}": StorageError("no answer") for n in range(8)})

    @dg.job
    def reading() -> None:
        read()

    done = reading.execute_in_process(instance=instance, raise_on_error=False)
    told = failure_cause(instance, done.dagster_run)
    assert told.startswith("read: 8 shard(s) failed, ")
    assert "s/4: no answer; and 3 more." in told
    assert "please report" not in told
