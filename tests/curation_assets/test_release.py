"""The asset ``release``, as Dagster runs it."""

import dagster as dg

from curation.release.manifest import list_releases
from curation_assets.release import ReleaseConfig, releasable_shards, release_version
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated


def run(curated: Curated, **config: object) -> dg.AssetMaterialization:
    """Run the asset on the records of the dataset."""
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    with open_instance(curated.recipe) as instance:
        done = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("release")],
            run_config={"ops": {"publish_release": {"config": config}}},
        )
    (event,) = done.get_asset_materialization_events()
    return event.materialization


def test_it_shows_the_card_the_counts_and_the_tars(curated: Curated) -> None:
    curated.edit("machine:", "release: {samples_per_shard: 50}\nmachine:")
    shown = run(curated).metadata
    (made,) = list_releases(curated.output)
    assert shown["name"].value == "small-0001"
    assert shown["samples"].value == made.num_samples
    assert shown["url"].value == f"{curated.output.url}/releases/small-0001"
    assert "## Known limits" in str(shown["card"].value)
    assert len(shown["shards"].records) == len(made.shards) == 3  # type: ignore[union-attr]


def test_its_version_is_that_of_its_content(curated: Curated) -> None:
    one, again = run(curated), run(curated)
    assert one.tags == again.tags
    assert one.tags is not None
    (made,) = list_releases(curated.output)
    assert one.tags["dagster/data_version"] == release_version(made)


def test_a_name_can_be_chosen_in_the_launchpad(curated: Curated) -> None:
    assert run(curated, name="chosen").metadata["name"].value == "chosen"


def test_every_filtered_shard_is_released(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        shards = releasable_shards(instance, lambda _: {}, ReleaseConfig())
    assert shards == ["00000", "train/00001", "train/00002"]


def test_what_is_not_up_to_date_is_refused_with_the_reason(curated: Curated) -> None:
    curated.edit(">= 200", ">= 300")
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    for asset in ("release", "release_plan"):
        with open_instance(curated.recipe) as instance:
            done = job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(asset)],
                raise_on_error=False,
            )
        (failed,) = [event for event in done.all_events if event.is_step_failure]
        told = str(failed.step_failure_data.user_failure_data)
        assert "3 filtered shard(s) are not up to date" in told
        assert "as_is" in told
        assert "00000: selection changes" in told
    assert list_releases(curated.output) == []
    assert run(curated, as_is=True).metadata["name"].value == "small-0001"
