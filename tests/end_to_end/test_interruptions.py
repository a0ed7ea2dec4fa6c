"""What goes wrong while a run is under way costs what it must, and no more."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import dagster as dg
import pytest

from curation.errors import InputError
from curation.index import read_catalog
from curation.recipe import Recipe
from curation.storage import LocalStorage, S3Storage, Storage
from curation.testing.image_shards import make_shard
from curation_assets.shard_asset import recorded_versions
from jobs.asset_definitions import asset_definitions
from jobs.curate import curate
from jobs.failure_causes import failure_cause
from resources.progress import LineProgress
from tests.conftest import ExpiringServer

SHARDS = ["a", "b", "c", "d"]


class Interrupted(LineProgress):
    """Does something once, when a shard of an asset is done."""

    def __init__(self, asset: str, shard: str, happens: Callable[[], object]) -> None:
        self.told: list[str] = []
        super().__init__(self.told.append)
        self.place, self.happens = (asset, shard), happens

    def advance(self, shard: str, num_samples: int) -> None:
        super().advance(shard, num_samples)
        if (self._asset, shard) == self.place:
            self.place = ("", "")
            self.happens()


def fill(source: Storage) -> None:
    for shard in SHARDS:
        samples = {f"{shard}{number}": b"picture" for number in range(3)}
        source.write(f"{shard}.tar", make_shard(samples))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shards", SHARDS)
        yield instance


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    fill(LocalStorage(tmp_path / "raw"))
    return Recipe(name="test", source=str(tmp_path / "raw"), output=str(tmp_path / "made"))


def indexed(instance: dg.DagsterInstance) -> list[str]:
    return sorted(recorded_versions(instance, "shard_index"))


def index(
    recipe: Recipe,
    instance: dg.DagsterInstance,
    progress: LineProgress,
    **resources: Storage,
) -> tuple[bool, str]:
    """Index all shards in one run; tell whether it succeeded, and else why not."""
    definitions = asset_definitions(recipe, progress=progress, **resources)
    job = definitions.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("raw_shard"), dg.AssetKey("shard_index")],
        tags={
            "dagster/asset_partition_range_start": SHARDS[0],
            "dagster/asset_partition_range_end": SHARDS[-1],
        },
        raise_on_error=False,
    )
    return done.success, "" if done.success else failure_cause(instance, done.dagster_run)


def test_after_keys_expired_only_what_is_missing_is_made(
    expiring_s3: ExpiringServer,
    instance: dg.DagsterInstance,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (expiring_s3.folder / "bucket").mkdir()
    source = S3Storage("bucket", "raw", expiring_s3.settings)
    fill(source)
    there = {"source": source.url, "s3": source.settings}
    on_s3 = Recipe.model_validate(recipe.model_dump() | there)
    secret = expiring_s3.keys["AWS_SECRET_ACCESS_KEY"]
    progress = Interrupted("shard_index", "b", expiring_s3.expire)
    with pytest.raises(InputError, match=r"s3://bucket/raw/c\.tar.*expired") as caught:
        curate(on_s3, progress, until="shard_index", instance=instance)
    assert secret not in str(caught.value) + "".join(progress.told)
    assert indexed(instance) == ["a", "b"]
    for name, value in expiring_s3.keys.items():
        monkeypatch.setenv(name, value)
    again: list[str] = []
    curate(on_s3, LineProgress(again.append), until="shard_index", instance=instance)
    assert [line.split()[1] for line in again] == ["c", "d"]


def test_a_source_that_goes_costs_the_shards_that_were_not_read_yet(
    instance: dg.DagsterInstance, recipe: Recipe
) -> None:
    raw = Path(recipe.source)
    away = raw.with_name("away")
    went = Interrupted("shard_index", "b", lambda: raw.rename(away))
    result = curate(recipe, went, until="shard_index", instance=instance)
    assert list(result.failed) == ["c", "d"]
    for shard, reason in result.failed.items():
        assert reason.startswith(str(raw / f"{shard}.tar"))
    with pytest.raises(InputError, match=r"no \.tar file"):
        curate(recipe, LineProgress(print), until="shard_index", instance=instance)
    assert instance.get_dynamic_partitions("shards") == SHARDS
    away.rename(raw)
    again: list[str] = []
    curate(recipe, LineProgress(again.append), until="shard_index", instance=instance)
    assert [line.split()[1] for line in again] == ["c", "d"]


@pytest.mark.parametrize("asset", ["raw_shard", "shard_index"])
@pytest.mark.parametrize("end", ["a", "d"])
def test_a_run_whose_range_lost_an_end_keeps_what_it_made_and_says_so(
    asset: str, end: str, instance: dg.DagsterInstance, recipe: Recipe
) -> None:
    progress = Interrupted(
        asset, "b", lambda: instance.delete_dynamic_partition("shards", end)
    )
    succeeded, cause = index(recipe, instance, progress)
    assert not succeeded
    assert f"{end}, an end of this run's range of partitions, was deleted" in cause
    assert "fault of the program" not in cause
    assert sorted(recorded_versions(instance, asset)) == SHARDS


def test_a_shard_deleted_inside_a_runs_range_is_passed_over(
    instance: dg.DagsterInstance, recipe: Recipe
) -> None:
    progress = Interrupted(
        "raw_shard", "a", lambda: instance.delete_dynamic_partition("shards", "b")
    )
    assert index(recipe, instance, progress) == (True, "")
    assert indexed(instance) == ["a", "c", "d"]


@dataclass(frozen=True)
class Meddled(LocalStorage):
    """A folder in which something happens while a certain file is being written."""

    happens: dict[str, Callable[[], object]] = field(default_factory=dict)

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        with super().open_writer(path) as file:
            self.happens.pop(path, lambda: None)()
            yield file


@pytest.mark.parametrize("file", ["index/b.idx", "index/b.parquet"])
def test_two_runs_over_the_same_shards_at_once_make_what_one_makes(
    file: str, instance: dg.DagsterInstance, recipe: Recipe, tmp_path: Path
) -> None:
    alone = LocalStorage(tmp_path / "alone")
    assert index(recipe, instance, LineProgress(print))[0]
    shutil.move(recipe.output, alone.root)
    output = Meddled(Path(recipe.output))
    output.happens[file] = lambda: index(recipe, instance, LineProgress(print))
    assert index(recipe, instance, LineProgress(print), output=output) == (True, "")
    assert not output.happens
    made = [stored.path for stored in alone.list_files()]
    assert [stored.path for stored in output.list_files()] == made
    for path in made:
        if path.endswith(".idx"):
            assert output.read(path) == alone.read(path)
        else:
            assert read_catalog(output, path).catalog == read_catalog(alone, path).catalog
