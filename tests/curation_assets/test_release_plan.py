"""The plan of a release as an asset: made anew with what it is made of."""

from curation.release.frozen_plan import read_plan
from curation.release.manifest import read_manifest
from jobs.instance import open_instance
from tests.conftest import Curated
from tests.curation_assets.test_release_shard import in_threes, run, shown


def test_its_tars_become_partitions_and_its_version_is_that_of_its_content(
    curated: Curated,
) -> None:
    in_threes(curated)
    done = run(curated, "release_plan")
    plan = read_plan(curated.output, curated.artifacts.release_plan)
    with open_instance(curated.recipe) as instance:
        partitions = instance.get_dynamic_partitions("release_shards")
    assert partitions == ["00000", "00001", "00002"]
    (event,) = done.get_asset_materialization_events()
    assert event.materialization.tags is not None
    assert event.materialization.tags["dagster/data_version"] == plan.fingerprint
    run(curated, "release")
    (again,) = shown(run(curated, "release_plan")).values()
    assert again["name"] == "small-0001"  # nothing is new


def test_a_name_and_packing_anew_are_chosen_in_the_launchpad(curated: Curated) -> None:
    in_threes(curated)
    (plan,) = shown(run(curated, "release_plan", name="chosen", anew=True)).values()
    assert plan["name"] == "chosen"
    run(curated, "release_shard", "00000", "00002")
    assert run(curated, "release", name="chosen", anew=True).success
    assert read_manifest(curated.output, "releases/chosen").num_samples == plan["samples"]
