"""What a worker that embeds is given, what comes of it, and what starts workers."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from curation.embedders.base import CPU_PASS, Embedder
from curation.errors import CurationError
from curation.image_loaders import LoaderSettings, make_image_loader
from curation.image_loaders.base import ImageLoader
from curation.task_progress import Tell, told_to
from curation.text_embedders.base import TextEmbedder

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[..., Result]
"""What is done with each task, called as ``work(task, *made)`` with what the tools made:
a plain function of a module, so that it can be sent."""
Moved = Callable[[Task, int, int], object]
"""Called with a task, the number of its samples that are done, and that of all."""

TELL_SECONDS = 0.5  # between two words about the same task: an eye wants no more


class Tools(Protocol):
    """What a worker makes for itself, once, on its device."""

    def make(self, device: str, threads: int | None = None) -> tuple[Any, ...]:
        """Make what the work takes besides its task; nothing is loaded yet.

        Args:
            device: ``cpu`` or ``cuda:N``.
            threads: How many the worker may use; by default all cores.
        """
        ...


@dataclass(frozen=True)
class EmbeddingTools:
    """What a worker that embeds images makes for itself: a loader and an embedder."""

    embedder: Embedder
    """With nothing loaded; its device is replaced by the worker's."""
    loader: str | None = None
    """Name of the image loader; None is ``dali`` on a GPU and ``nvimgcodec`` on a CPU."""
    settings: LoaderSettings = field(default_factory=LoaderSettings)
    """Of the loader; the device is replaced by the worker's."""

    def make(self, device: str, threads: int | None = None) -> tuple[ImageLoader, Embedder]:
        """Make the loader and the embedder for one device; neither loads anything yet.

        Args:
            device: Where pixels and vectors are to be.
            threads: For DALI, unless the settings say how many; by default all cores.
        """
        name = self.loader or ("nvimgcodec" if device == "cpu" else "dali")
        embedder = self.embedder.on(device)
        dali = self.settings.dali
        if dali.num_threads is None:
            dali = dali.model_copy(update={"num_threads": threads})
        settings = replace(self.settings, device=device, dali=dali)
        if device == "cpu" and settings.batch_size is None:
            # a pass for each thread: they work side by side
            import torch

            count = threads or torch.get_num_threads()
            settings = replace(settings, batch_size=CPU_PASS * count)
        return make_image_loader(name, embedder.transform, settings), embedder


@dataclass(frozen=True)
class TextEmbeddingTools:
    """What a worker that embeds captions makes for itself: a text embedder."""

    embedder: TextEmbedder
    """With nothing loaded; its device is replaced by the worker's."""

    def make(self, device: str, threads: int | None = None) -> tuple[TextEmbedder]:
        """Make the text embedder for one device; it loads nothing yet."""
        return (self.embedder.on(device),)


@dataclass(frozen=True)
class Outcome(Generic[Task, Result]):
    """What came of one task: a result or an error."""

    task: Task
    result: Result | None
    error: Exception | None
    seconds: float
    device: str


class EmbeddingWorkers(ABC):
    """Where shards are embedded. A member is a value: it starts nothing until asked."""

    @abstractmethod
    def check(self) -> str:
        """Find out whether there is anything to compute on, and take nothing of it.

        Returns:
            What there is, in words.

        Raises:
            InputError: There is nothing.
        """

    @abstractmethod
    def embed(
        self,
        tasks: Collection[Task],
        work: Work[Result],
        tools: Tools,
        *,
        ahead: Callable[[Task], None] | None = None,
        moved: Moved[Task] | None = None,
    ) -> Iterator[Outcome[Task, Result]]:
        """Do every task on some worker; give each outcome as it comes.

        Args:
            tasks: Anything that can be pickled and is hashable, such as a shard's path.
            work: Called as ``work(task, *made)`` where the worker is, with what its tools
                made. What it returns is pickled: keep it small, and write tables to
                storage inside.
            tools: What each worker makes for itself, once for all of its tasks.
            ahead: Called with a task in a thread of this process while those before it are
                done, if workers are on this machine: to fetch what it reads.
            moved: Told how far a task is, by what its work says to
                :func:`curation.task_progress.tell_part`, at most twice a second and worker,
                if workers are on this machine. Called while the iterator is read.

        Yields:
            One outcome per task, in the order in which they end. An error of ``work`` is
            one task's error. No worker is left when the iterator ends or is closed.

        Raises:
            InputError: There is nothing to compute on.
        """


def do_task(
    task: Task,
    work: Work[Result],
    made: tuple[Any, ...],
    device: str,
    tell: Tell | None = None,
    seconds_between: float = TELL_SECONDS,
) -> Outcome[Task, Result]:
    """Do one task where the worker is, and tell ``tell`` how far it is."""
    started = perf_counter()
    try:
        with told_to(tell, seconds_between) if tell else nullcontext():
            result, error = work(task, *made), None
    except Exception as found:  # one shard's trouble, whatever it is, is not another's
        result, error = None, found
    return Outcome(task, result, error, perf_counter() - started, device)


def sendable_error(error: Exception | None) -> Exception | None:
    """Keep this package's errors; put others into words, for they may not pickle."""
    if error is None or isinstance(error, CurationError):
        return error
    return CurationError(f"{type(error).__name__}: {error}")


class RecordSender(logging.Handler):
    """Hands log records of a worker to whoever sends them to the run."""

    def __init__(self, send: Callable[[logging.LogRecord], Any]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record whose parts can be pickled."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._send(record)

    def install(self) -> None:
        """Take over all that this package logs in the worker."""
        logger = logging.getLogger("curation")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers = [self]


def log_here(record: logging.LogRecord) -> None:
    """Handle a worker's log record as if it were logged in this process."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
