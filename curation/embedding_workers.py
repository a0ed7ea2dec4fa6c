"""Embed many shards with one process per device, each of which loads its model once.

On a CPU, single-threaded processes side by side beat one process with threads, so a core
is a device here like a GPU is. A shard that takes its worker down with it (a crash in
native code, the kernel's out-of-memory killer) costs itself: its worker is replaced and
the others go on.
"""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import perf_counter
from typing import Any, Generic, TypeVar

from curation.embedders.base import Embedder
from curation.errors import CurationError
from curation.image_loaders import LoaderSettings, make_image_loader
from curation.image_loaders.base import ImageLoader

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task, ImageLoader, Embedder], Result]
"""What is done with each task: a plain function of a module, so that it can be sent."""

STOP_SECONDS = 5.0  # that a worker has to end by itself


@dataclass(frozen=True)
class EmbeddingTools:
    """What every worker makes for itself, once."""

    embedder: Embedder
    """With nothing loaded; its device is replaced by the worker's."""
    loader: str | None = None
    """Name of the image loader; None is ``dali`` on a GPU and ``nvimgcodec`` on a CPU."""
    settings: LoaderSettings = field(default_factory=LoaderSettings)
    """Of the loader; the device is replaced by the worker's."""

    def make(self, device: str) -> tuple[ImageLoader, Embedder]:
        """Make the loader and the embedder for one device; neither loads anything yet."""
        name = self.loader or ("nvimgcodec" if device == "cpu" else "dali")
        embedder = self.embedder.on(device)
        settings = replace(self.settings, device=device)
        return make_image_loader(name, embedder.transform, settings), embedder


@dataclass(frozen=True)
class Outcome(Generic[Task, Result]):
    """What came of one task: a result or an error."""

    task: Task
    result: Result | None
    error: Exception | None
    seconds: float
    device: str


def embed_on_workers(
    tasks: Iterable[Task],
    work: Work[Task, Result],
    tools: EmbeddingTools,
    devices: Sequence[str],
) -> Iterator[Outcome[Task, Result]]:
    """Do every task on one of the devices; give each outcome as it comes.

    With one device, all happens in this process.

    Args:
        tasks: Anything that can be pickled, such as a shard's path. Taken one by one, as
            workers become free.
        work: Called as ``work(task, loader, embedder)`` in the worker's process. What it
            returns is pickled: keep it small, and write tables to storage inside.
        tools: What the workers make for themselves.
        devices: One worker for each: see :func:`curation.devices.claim_devices`.

    Yields:
        One outcome per task, in the order in which they end. An error of ``work`` is one
        task's error, and so is the death of its process.
    """
    if len(devices) == 1:
        yield from _in_this_process(tasks, work, tools, devices[0])
        return
    remaining = iter(tasks)
    workers = [_Worker(device, work, tools, len(devices)) for device in devices]
    try:
        busy = [worker for worker in workers if worker.give_next(remaining)]
        while busy:
            for worker in _ready(busy):
                outcome = worker.outcome()
                if outcome is None:
                    continue
                if not worker.give_next(remaining):
                    busy.remove(worker)
                yield outcome
    finally:
        for worker in workers:
            worker.stop()


def _in_this_process(
    tasks: Iterable[Task], work: Work[Task, Result], tools: EmbeddingTools, device: str
) -> Iterator[Outcome[Task, Result]]:
    made = tools.make(device)
    for task in tasks:
        yield _done(task, work, made, device)


def _done(
    task: Task, work: Work[Task, Result], made: tuple[ImageLoader, Embedder], device: str
) -> Outcome[Task, Result]:
    started = perf_counter()
    try:
        result, error = work(task, *made), None
    except Exception as found:  # one shard's trouble, whatever it is, is not another's
        result, error = None, found
    return Outcome(task, result, error, perf_counter() - started, device)


class _Worker:
    """A process, the task that it has, and its replacement if it dies."""

    def __init__(
        self, device: str, work: Work[Any, Any], tools: EmbeddingTools, num_workers: int
    ) -> None:
        self.device = device
        self.arguments = (device, work, tools, _threads(device, num_workers))
        self.task: Any = None
        self.started = 0.0
        self.process: BaseProcess | None = None
        self.pipe: Connection | None = None

    def give_next(self, tasks: Iterator[Any]) -> bool:
        """Give it the next task; False if there is none."""
        for task in tasks:
            if self.process is None:
                self._start()
            assert self.pipe is not None
            self.task, self.started = task, perf_counter()
            self.pipe.send(task)
            return True
        return False

    def outcome(self) -> Outcome[Any, Any] | None:
        """Receive what it has to say; None if that was a line of its log."""
        assert self.pipe is not None
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._died()
        if isinstance(message, logging.LogRecord):
            _log_here(message)
            return None
        result, error, seconds = message
        return self._ended(result, error, seconds)

    def stop(self) -> None:
        """End the process, by itself if it can."""
        if self.process is None or self.pipe is None:
            return
        self.pipe.close()
        self.process.join(0 if self.task is not None else STOP_SECONDS)
        self.process.terminate()
        self.process.join(STOP_SECONDS)
        self.process.kill()
        self.process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.pipe, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, *self.arguments), daemon=True
        )
        process.start()
        theirs.close()
        self.process = process

    def _died(self) -> Outcome[Any, Any]:
        assert self.process is not None
        self.process.join()
        error = CurationError(
            f"The worker process on {self.device} {_how_it_ended(self.process.exitcode)} "
            f"while it worked on {self.task!r}. Other shards go on; if it was killed for "
            "want of memory, use fewer workers"
        )
        self.process, self.pipe = None, None
        return self._ended(None, error, perf_counter() - self.started)

    def _ended(
        self, result: Any, error: Exception | None, seconds: float
    ) -> Outcome[Any, Any]:
        task, self.task = self.task, None
        return Outcome(task, result, error, seconds, self.device)


class _PipeHandler(logging.Handler):
    """Sends log records to the parent process, to be handled there."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.pipe.send(record)


def _serve(
    pipe: Connection, device: str, work: Work[Any, Any], tools: EmbeddingTools, threads: int
) -> None:
    """Be a worker: do tasks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    if device != "cpu":
        torch.cuda.set_device(device)
    logger = logging.getLogger("curation")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_PipeHandler(pipe))
    made: tuple[ImageLoader, Embedder] | None = None
    # the other end closes when there is no more to do, or when its process is killed
    with suppress(EOFError, ConnectionError):
        while True:
            task, started = pipe.recv(), perf_counter()
            try:
                made = made or tools.make(device)
            except Exception as error:
                pipe.send((None, _sendable(error), perf_counter() - started))
                continue
            outcome = _done(task, work, made, device)
            pipe.send((outcome.result, _sendable(outcome.error), outcome.seconds))


def _log_here(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _sendable(error: Exception | None) -> Exception | None:
    """Keep this package's errors; put others into words, for they may not pickle."""
    if error is None or isinstance(error, CurationError):
        return error
    return CurationError(f"{type(error).__name__}: {error}")


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    pipes = {worker.pipe: worker for worker in workers if worker.pipe is not None}
    return [pipes[pipe] for pipe in wait(list(pipes)) if isinstance(pipe, Connection)]


def _threads(device: str, num_workers: int) -> int:
    """Share the cores among the workers; a core that is a device is one thread."""
    cores = len(os.sched_getaffinity(0))
    return 1 if device == "cpu" else max(1, cores // num_workers)


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was ended by {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"
