"""From an empty source to a release without a hand: ticks alone, of sensor and schedule."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.event_api import AssetRecordsFilter

from curation.recipe import load_recipe
from curation.storage import LocalStorage, S3Storage, Storage
from curation.testing.image_shards import make_shard
from curation.testing.pictures import encode, make_picture
from curation_assets.lineage import Lineage
from jobs.instance import open_instance
from tests.conftest import ROOT
from tests.jobs.daemon import Daemon, RunDone

RECIPE = """\
name: alone
source: {place}/raw
output: {place}/made
{s3}
encoder: {{precision: fp32}}
filter: min(width, height) >= 32 and not is_duplicate
release: {{keys: preserve}}
machine: {{device: cpu, workers: 1, image_loader: pillow}}
"""

Samples = dict[str, bytes]
"""Key to image."""


def pictures(prefix: str, seeds: range, size: int = 40) -> Samples:
    return {
        f"{prefix}{seed:03d}": encode(make_picture(size, size, seed), "JPEG")
        for seed in seeds
    }


FIRST = pictures("a", range(4))
SECOND = pictures("b", range(10, 14))
REMADE = pictures("b", range(20, 25))
COPIED = {"b900": FIRST["a001"]}  # of two copies the one whose key comes first stays
TOO_SMALL = pictures("b8", range(30, 32), size=20)


Start = Callable[[Storage], Daemon]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Give what starts a daemon whose shards, and whatever is made, are at a place."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ExitStack() as opened:

        def start(place: Storage) -> Daemon:
            s3 = ""
            if isinstance(place, S3Storage):
                endpoint = place.settings.endpoint_url
                s3 = f"s3: {{endpoint_url: '{endpoint}', region: {place.settings.region}}}"
            (tmp_path / "recipe.yaml").write_text(RECIPE.format(place=place.url, s3=s3))
            recipe = load_recipe(tmp_path / "recipe.yaml")
            return Daemon(opened.enter_context(open_instance(recipe)), recipe)

        yield start


def drop(place: Storage, shard: str, samples: Samples) -> None:
    place.write(f"raw/{shard}.tar", make_shard(samples))


def let_it_run(daemon: Daemon) -> list[RunDone]:
    """Tick the sensor until it finds nothing to do, then the weekly schedule once."""
    assert "look the same twice" in str(daemon.tick().skip_message)
    runs: list[RunDone] = []
    while done := daemon.run():
        runs += done
    assert "up to date" in str(daemon.tick().skip_message)
    daemon.schedule("weekly_release")
    return runs


def members_of(*tars: bytes) -> dict[str, bytes]:
    """Read the members of tars with ``tarfile``."""
    found = {}
    for tar in tars:
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            for member in opened:
                reader = opened.extractfile(member)
                assert reader
                found[member.name] = reader.read()
    return found


def is_released(place: Storage, name: str, samples: Samples) -> bool:
    """Tell whether a release's tars hold these samples, whole, and no others."""
    tars = place.list_files(f"made/releases/{name}", ".tar")
    found = members_of(*(place.read(tar.path) for tar in tars))
    return found == members_of(make_shard(samples))


def made_after(daemon: Daemon, pointer: int) -> dict[str, list[str | None]]:
    """Tell which partitions of which assets were materialized since, by the records."""
    found = {}
    for asset in (*Lineage(daemon.recipe).assets, "release"):
        records = daemon.instance.fetch_materializations(
            AssetRecordsFilter(dg.AssetKey(asset), after_storage_id=pointer), limit=100
        ).records
        if records:
            found[asset] = sorted(record.partition_key for record in records)
    return found


def test_shards_dropped_into_a_folder_become_a_release(
    start: Start, tmp_path: Path
) -> None:
    place = LocalStorage(tmp_path)
    daemon = start(place)
    assert "no .tar file" in str(daemon.tick().skip_message)
    drop(place, "train/a", FIRST)
    drop(place, "train/b", SECOND | COPIED | TOO_SMALL)
    assert let_it_run(daemon) == [
        ("train/a", ["raw_shard", "shard_index", "embeddings", "scores"]),
        ("all", ["duplicate_groups"]),
        ("train/a", ["selection", "filtered_shard"]),
    ]
    assert is_released(place, "alone-0001", FIRST | SECOND)


def test_shards_dropped_into_a_bucket_do_too_and_of_a_replaced_one_only_its_chain_is_remade(
    start: Start, s3_storage: S3Storage
) -> None:
    daemon = start(s3_storage)
    assert "no .tar file" in str(daemon.tick().skip_message)
    drop(s3_storage, "train/a", FIRST)
    drop(s3_storage, "train/b", SECOND | COPIED | TOO_SMALL)
    let_it_run(daemon)
    assert is_released(s3_storage, "alone-0001", FIRST | SECOND)
    before = daemon.instance.event_log_storage.get_maximum_record_id() or 0
    drop(s3_storage, "train/b", REMADE | COPIED)
    let_it_run(daemon)
    assert is_released(s3_storage, "alone-0002", FIRST | REMADE)
    assert is_released(s3_storage, "alone-0001", FIRST | SECOND)
    made = made_after(daemon, before)
    assert made.pop("duplicate_groups") == made.pop("release") == [None]
    assert made == {asset: ["train/b"] for asset in made}
    assert {*made, "duplicate_groups"} == set(Lineage(daemon.recipe).assets)
