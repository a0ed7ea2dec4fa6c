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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Lock
from time import perf_counter
from typing import Any, Literal, NamedTuple

from curation.devices import claim_devices, usable_gpus
from curation.embedding_workers.base import (
    TELL_SECONDS,
    EmbeddingWorkers,
    Moved,
    Outcome,
    RecordSender,
    Result,
    Task,
    Tools,
    Work,
    do_task,
    log_here,
    sendable_error,
)
from curation.errors import CurationError
from curation.storage.base import run_ahead

STOP_SECONDS = 5.0  # that a worker has to end by itself


@dataclass(frozen=True)
class LocalWorkers(EmbeddingWorkers):
    """Processes of this machine, on devices that no other run has."""

    kind: Literal["cuda", "cpu", "auto"]
    count: int | None = None
    """How many; by default one per free GPU, or per core."""
    shared: bool = False
    """Use GPUs that other runs use too."""

    def check(self) -> str:
        gpus = usable_gpus(self.kind, self.count)
        number = self.count or len(gpus) or len(os.sched_getaffinity(0))
        return f"{number} x {'cuda' if gpus else 'cpu'}"

    def embed(
        self,
        tasks: Collection[Task],
        work: Work[Result],
        tools: Tools,
        *,
        ahead: Callable[[Task], None] | None = None,
        moved: Moved[Task] | None = None,
    ) -> Iterator[Outcome[Task, Result]]:
        count = 1 if len(tasks) == 1 else self.count
        with claim_devices(self.kind, count, shared=self.shared) as claimed:
            # the next task of each worker is prepared while it does the one before
            ready = _prepared(tasks, ahead, len(claimed)) if ahead else tasks
            yield from embed_on_workers(ready, work, tools, claimed, moved)


def _prepared(
    tasks: Iterable[Task], ahead: Callable[[Task], None], most: int
) -> Iterator[Task]:
    def prepared(task: Task) -> Task:
        ahead(task)
        return task

    return run_ahead((partial(prepared, task) for task in tasks), most)


def embed_on_workers(
    tasks: Iterable[Task],
    work: Work[Result],
    tools: Tools,
    devices: Sequence[str],
    moved: Moved[Task] | None = None,
    seconds_between: float = TELL_SECONDS,
) -> Iterator[Outcome[Task, Result]]:
    """Do every task on one of the devices; give each outcome as it comes.

    With one device, all happens in this process.

    Args:
        tasks: Anything that can be pickled, such as a shard's path. Taken one by one, as
            workers become free.
        work: Called as ``work(task, *made)`` in the worker's process. What it
            returns is pickled: keep it small, and write tables to storage inside.
        tools: What the workers make for themselves.
        devices: One worker for each: see :func:`curation.devices.claim_devices`.
        moved: Told how far a task is, in this process.
        seconds_between: Least seconds between two words about the same task.

    Yields:
        One outcome per task, in the order in which they end. An error of ``work`` is one
        task's error, and so is the death of its process.
    """
    if len(devices) == 1:
        made = tools.make(devices[0])
        for task in tasks:
            tell = partial(moved, task) if moved else None
            yield do_task(task, work, made, devices[0], tell, seconds_between)
        return
    remaining = iter(tasks)
    threads = partial(_threads, num_workers=len(devices))
    workers = [
        _Worker((device, work, tools, threads(device), seconds_between), moved)
        for device in devices
    ]
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


class _Part(NamedTuple):
    """What a worker says of the task that it has."""

    done: int
    total: int


class _Worker:
    """A process, the task that it has, and its replacement if it dies."""

    def __init__(
        self,
        arguments: tuple[str, Work[Any], Tools, int, float],
        moved: Moved[Any] | None,
    ) -> None:
        self.device = arguments[0]
        self.arguments = arguments
        """Of :func:`_serve`, after the pipe."""
        self.moved = moved
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
        """Receive what it has to say; None if its task goes on."""
        assert self.pipe is not None
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._died()
        if isinstance(message, logging.LogRecord):
            log_here(message)
            return None
        if isinstance(message, _Part):
            if self.moved:
                self.moved(self.task, *message)
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


def _serve(
    pipe: Connection,
    device: str,
    work: Work[Any],
    tools: Tools,
    threads: int,
    seconds_between: float,
) -> None:
    """Be a worker: do tasks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    if device != "cpu":
        torch.cuda.set_device(device)
    lock = Lock()  # threads of an image loader log too

    def send(message: Any) -> None:
        with lock:
            pipe.send(message)

    def tell(done: int, total: int) -> None:
        send(_Part(done, total))

    RecordSender(send).install()
    made: tuple[Any, ...] | None = None
    # the other end closes when there is no more to do, or when its process is killed
    with suppress(EOFError, ConnectionError):
        while True:
            task, started = pipe.recv(), perf_counter()
            try:
                made = made or tools.make(device, threads)
            except Exception as error:
                send((None, sendable_error(error), perf_counter() - started))
                continue
            outcome = do_task(task, work, made, device, tell, seconds_between)
            send((outcome.result, sendable_error(outcome.error), outcome.seconds))


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
