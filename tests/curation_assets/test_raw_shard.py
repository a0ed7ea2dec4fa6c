"""What is recorded of the tars at the source."""

import dagster as dg

from curation_assets.lineage import raw_version
from curation_assets.shard_asset import recorded_versions
from jobs.instance import open_instance
from tests.conftest import Curated

KEY = dg.AssetKey("raw_shard")


def test_every_tar_is_recorded_with_its_size_and_version(curated: Curated) -> None:
    tars = {file.path[:-4]: file for file in curated.source.list_files(suffix=".tar")}
    with open_instance(curated.recipe) as instance:
        recorded = recorded_versions(instance, "raw_shard")
        events = instance.fetch_materializations(KEY, limit=10).records
    assert recorded == {shard: raw_version(tar) for shard, tar in tars.items()}
    sizes = {
        event.partition_key: event.asset_materialization.metadata["bytes"].value
        for event in events
        if event.asset_materialization
    }
    assert sizes == {shard: tar.size for shard, tar in tars.items()}
