"""The named jobs: what each makes, and what it leaves alone, by what is on record."""

import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from curation.release.manifest import list_releases
from curation_assets.lineage import Lineage
from curation_assets.run_tags import DEVICE, DEVICE_SECONDS, ENCODER, IMAGES, RECIPE, SHARDS
from jobs.asset_jobs import ASSET_JOBS
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated

SHARD = "train/00001"
ONE_SHARD = {
    "dagster/asset_partition_range_start": SHARD,
    "dagster/asset_partition_range_end": SHARD,
}


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    with open_instance(curated.recipe) as instance:
        yield instance


def replace_tar(curated: Curated) -> None:
    tar = curated.source.root / f"{SHARD}.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))


def run(
    curated: Curated, instance: dg.DagsterInstance, name: str, **options: Any
) -> tuple[set[tuple[str, str | None]], dg.DagsterRun]:
    """Execute a job; give asset and partition of each event that it left on record."""
    job = build_definitions(curated.recipe).resolve_job_def(name)
    done = job.execute_in_process(instance=instance, **options)
    assert done.success
    records = instance.get_records_for_run(
        done.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    events = [record.event_log_entry.dagster_event for record in records]
    made = {
        (e.asset_key.to_user_string(), e.partition) for e in events if e and e.asset_key
    }
    after = instance.get_run_by_id(done.run_id)
    assert after
    return made, after


def test_each_job_says_what_it_is_for_and_of_which_recipe(curated: Curated) -> None:
    curated.edit(
        "machine:",
        "imports: {images: {a: {folder: photos}}, urls: {b: {list: l.csv}}}\nmachine:",
    )
    definitions = build_definitions(curated.recipe)
    for name, about in ASSET_JOBS.items():
        job = definitions.resolve_job_def(name)
        assert job.description == about.description
        assert job.tags[RECIPE] == "small"
        assert job.tags[ENCODER] == curated.recipe.encoder.model


def test_curate_shards_makes_the_whole_chain_of_its_shards_and_compares_all(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    made, _ = run(curated, instance, "curate_shards", tags=ONE_SHARD)
    assets = set(Lineage(curated.recipe).assets) - {"duplicate_groups"}
    assert made == {(a, SHARD) for a in assets} | {("duplicate_groups", None)}


def test_embed_only_scores_and_decides_nothing_and_says_what_it_took(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    replace_tar(curated)
    made, after = run(curated, instance, "embed_only", tags=ONE_SHARD)
    assert made == {(a, SHARD) for a in ("raw_shard", "shard_index", "embeddings")}
    assert (after.tags[SHARDS], after.tags[IMAGES]) == ("1", "80")
    assert after.tags[DEVICE] == "cpu"
    assert float(after.tags[DEVICE_SECONDS]) > 0


def test_rescore_makes_no_embedding(curated: Curated, instance: dg.DagsterInstance) -> None:
    curated.edit(">= 200", ">= 220")
    before = curated.output.list_files("embeddings")
    made, after = run(curated, instance, "rescore", tags=ONE_SHARD)
    per_shard = ("scores", "duplicates", "selection", "filtered_shard")
    assert made == {(a, SHARD) for a in per_shard} | {("duplicate_groups", None)}
    assert curated.output.list_files("embeddings") == before
    assert DEVICE_SECONDS not in after.tags


def test_release_takes_its_name_from_the_launchpad(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    config = {"ops": {"publish_release": {"config": {"name": "small-for-ada"}}}}
    made, _ = run(curated, instance, "release", run_config=config)
    assert made == {("release", None)}
    assert [made.name for made in list_releases(curated.output)] == ["small-for-ada"]
