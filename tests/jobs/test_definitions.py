"""The code location: loaded as Dagster loads it, and run on an ephemeral instance."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from curation.errors import InputError
from curation_assets.lineage import DECISION_ASSETS, IMAGE_ASSETS, Lineage
from curation_assets.partitions import SHARDS
from curation_assets.shard_asset import recorded_versions
from jobs.definitions import build_definitions
from tests.conftest import ROOT, Curated

SHARD_NAMES = ["00000", "train/00001", "train/00002"]


def test_dagster_validates_the_workspace_of_the_checkout() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dagster",
            "definitions",
            "validate",
            "-w",
            "workspace.yaml",
        ],
        cwd=ROOT,
        env=os.environ | {"CURATION_RECIPE": str(ROOT / "recipe.yaml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_every_asset_has_a_description_a_group_and_kinds(curated: Curated) -> None:
    graph = build_definitions(curated.recipe).resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *Lineage(curated.recipe).assets,
        "release_plan",
        "release_shard",
        "release",
    }
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.group_name in {"images", "decision", "dataset"}
        assert node.kinds


def test_a_recipe_that_compares_embeddings_has_their_cells_and_bins(
    curated: Curated,
) -> None:
    curated.edit("machine:", "duplicates: {min_similarity: 0.95}\nmachine:")
    definitions = build_definitions(curated.recipe)
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    parents = graph.get(dg.AssetKey("duplicate_groups")).parent_keys
    assert dg.AssetKey("cluster_bins") in parents
    parents = graph.get(dg.AssetKey("cluster_bins")).parent_keys
    assert parents == {dg.AssetKey("centroids")}


def test_a_wrong_recipe_does_not_load(curated: Curated) -> None:
    with pytest.raises(InputError, match="width"):
        build_definitions(curated.edit("min(width", "min(widht"))


def test_one_run_on_an_ephemeral_instance_makes_every_shard(
    curated: Curated, tmp_path: Path
) -> None:
    curated.edit("output: curated", "output: anew")
    definitions = build_definitions(curated.recipe)
    job = definitions.resolve_implicit_global_asset_job_def()
    assets = Lineage(curated.recipe).assets
    images = [asset for asset in IMAGE_ASSETS if asset in assets]
    rest = DECISION_ASSETS
    tags = {
        "dagster/asset_partition_range_start": SHARD_NAMES[0],
        "dagster/asset_partition_range_end": SHARD_NAMES[-1],
    }
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(SHARDS.name or "", SHARD_NAMES)
        for assets, run_tags in ((images, tags), (["duplicate_groups"], {}), (rest, tags)):
            done = job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(asset) for asset in assets],
                tags=run_tags,
            )
            assert done.success
        for asset in (*images, *rest):
            assert sorted(recorded_versions(instance, asset)) == SHARD_NAMES


def test_a_missing_input_is_told_by_name(curated: Curated) -> None:
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(SHARDS.name or "", SHARD_NAMES)
        done = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("embeddings")],
            partition_key="00000",
            raise_on_error=False,
        )
    (failure,) = [e.step_failure_data for e in done.all_events if e.is_step_failure]
    assert "embeddings needs shard_index" in str(failure)
