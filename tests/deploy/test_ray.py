"""A local Ray cluster that pretends to have two GPUs; actors compute on CPUs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from curation.embedding_workers import EmbeddingWorkers
from curation.embedding_workers.ray import RayWorkers, ShardEmbedder
from curation.errors import InputError
from curation.testing.embedding_workers_contract import (
    TOOLS,
    EmbeddingWorkersContract,
    work,
)
from curation_assets.shard_asset import recorded_versions
from jobs.curate import curate
from jobs.instance import open_instance
from resources.progress import LineProgress
from tests.conftest import ROOT, Curated
from tests.deploy.conftest import RECIPE, SHARDS, files_of, home_with


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Start the cluster with two pretended GPUs, and end it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is left in the home folder
        ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


class TestRayWorkers(EmbeddingWorkersContract):
    @pytest.fixture(scope="class")
    @classmethod
    def workers(cls) -> EmbeddingWorkers:
        return RayWorkers("auto")


def test_a_gpu_that_ray_promised_and_is_not_there_is_told() -> None:
    outcomes = RayWorkers("cuda", 1).embed(["a"], work, TOOLS)
    with pytest.raises(InputError, match="where Ray promised one"):
        next(outcomes)


class KillOneActor(LineProgress):
    """Kills the process of an actor when the first shard is embedded."""

    killed: int | None = None

    def advance(self, shard: str, num_samples: int) -> None:
        super().advance(shard, num_samples)
        if self._asset == "embeddings" and self.killed is None:
            self.killed = actor_processes()[0]
            os.kill(self.killed, signal.SIGKILL)


def actor_processes() -> list[int]:
    """Find actors by the name that Ray gives their processes."""
    name = f"ray::{ShardEmbedder.__name__}".encode()
    lines = {path.parent.name: path for path in Path("/proc").glob("[0-9]*/cmdline")}
    return [int(pid) for pid, path in lines.items() if path.read_bytes().startswith(name)]


def test_a_run_goes_on_without_a_killed_actor_and_makes_what_one_process_makes(
    one_process: Curated,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = RECIPE.replace("raw", str(one_process.source.root))
    (tmp_path / "recipe.yaml").write_text(
        text.replace("device: cpu, workers: 1", "engine: ray, device: auto")
    )
    home = home_with(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    recipe = Curated(tmp_path).recipe
    progress = KillOneActor(print)
    result = curate(recipe, progress)
    assert progress.killed is not None
    assert "dealt out again" in caplog.text
    assert caplog.text.count("loaded tf_efficientnet_lite0") <= 3  # one by each actor
    assert result.failed == {}
    assert files_of(tmp_path / "curated") == files_of(one_process.output.root)
    with open_instance(recipe) as instance:
        assert sorted(recorded_versions(instance, "embeddings")) == SHARDS
