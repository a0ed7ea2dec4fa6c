"""Tars of a release as partitions, each recorded, in as many runs as one likes."""

import dagster as dg

from curation.release.manifest import list_releases
from curation.verify import verify_release
from curation_assets.release import RELEASE, RELEASE_STEP
from curation_assets.release_shard import NOT_PLANNED
from curation_assets.shard_asset import recorded_versions
from jobs.attempts import RANGE_END, RANGE_START
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated

TARS = ["00000", "00001", "00002"]


def run(
    curated: Curated, asset: str, *tars: str, **config: object
) -> dg.ExecuteInProcessResult:
    """Run one of the assets of a release, on the records of the dataset."""
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    tags = {RANGE_START: tars[0], RANGE_END: tars[-1]} if tars else {}
    step = RELEASE_STEP if asset == RELEASE else asset
    with open_instance(curated.recipe) as instance:
        return job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(asset)],
            tags=tags,
            run_config={"ops": {step: {"config": config}}} if config else None,
            raise_on_error=False,
        )


def shown(done: dg.ExecuteInProcessResult) -> dict[str | None, dict[str, object]]:
    """Give the metadata of each partition that a run recorded."""
    events = [e.materialization for e in done.get_asset_materialization_events()]
    return {e.partition: {k: v.value for k, v in e.metadata.items()} for e in events}


def in_threes(curated: Curated) -> None:
    curated.edit("machine:", "release: {samples_per_shard: 50, npy: true}\nmachine:")


def test_a_release_is_written_by_two_runs_and_published_by_a_third(
    curated: Curated,
) -> None:
    in_threes(curated)
    (plan,) = shown(run(curated, "release_plan")).values()
    assert (plan["name"], plan["tars"], plan["tars_shared"]) == ("small-0001", 3, 0)
    one, other = (
        run(curated, "release_shard", *TARS[:2]),
        run(curated, "release_shard", "00002"),
    )
    assert [*shown(one), *shown(other)] == TARS
    assert list_releases(curated.output) == []
    written = {f.path: f.version for f in curated.output.list_files("releases")}
    assert len(written) == 12
    run(curated, "release")
    (made,) = list_releases(curated.output)
    now = {f.path: f.version for f in curated.output.list_files("releases")}
    assert written.items() <= now.items()
    assert verify_release(curated.output, made.folder).differences == ()
    with open_instance(curated.recipe) as instance:
        found = recorded_versions(instance, "release_shard")
    assert found == {f"{s.number:05d}": s.fingerprint for s in made.shards}


def test_a_tar_that_is_there_is_not_written_again(curated: Curated) -> None:
    in_threes(curated)
    run(curated, "release_plan")
    first = shown(run(curated, "release_shard", *TARS))
    again = shown(run(curated, "release_shard", *TARS))
    assert again == {tar: {**told, "cached": True} for tar, told in first.items()}


def test_a_tar_that_the_plan_has_no_more_is_recorded_as_such(curated: Curated) -> None:
    in_threes(curated)
    run(curated, "release_plan")
    curated.edit("samples_per_shard: 50", "samples_per_shard: 90")
    (plan,) = shown(run(curated, "release_plan")).values()
    assert plan["tars"] == 2
    told = shown(run(curated, "release_shard", *TARS))
    assert told["00002"]["samples"] == 0
    with open_instance(curated.recipe) as instance:
        assert recorded_versions(instance, "release_shard")["00002"] == NOT_PLANNED


def test_a_filtered_shard_that_changes_fails_its_tars_alone(curated: Curated) -> None:
    in_threes(curated)
    run(curated, "release_plan")
    tar = curated.artifacts.filtered_tar("train/00002")
    curated.output.write(tar, curated.output.read(curated.artifacts.filtered_tar("00000")))
    done = run(curated, "release_shard", *TARS)
    assert not done.success
    assert list(shown(done)) == ["00000"]
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    assert "the table is of other samples" in str(
        failed.step_failure_data.user_failure_data
    )


def test_without_a_plan_it_fails_and_says_where_it_looked(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        instance.add_dynamic_partitions("release_shards", ["00000"])
    done = run(curated, "release_shard", "00000")
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    assert "release_plans/small.parquet" in str(failed.step_failure_data.user_failure_data)
