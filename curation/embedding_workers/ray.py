"""Embed many shards with actors of a Ray cluster, each of which loads its model once.

The process that asks deals the shards out, one at a time to each actor, and has each
outcome as it comes. An actor that is lost (its node was taken back, the kernel killed it)
costs no shard: the shard is dealt out again, to another actor, and a new actor is asked of
the cluster, which may start a node for it.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal

from curation.devices import visible_gpus
from curation.embedding_workers.base import (
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
from curation.errors import CurationError, InputError

MOST_TRIES = 3
"""Actors that may be lost with the same shard before it is held to be the cause."""

log = logging.getLogger(__name__)

Kind = Literal["cuda", "cpu", "auto"]


@dataclass(frozen=True)
class RayWorkers(EmbeddingWorkers):
    """Actors of the Ray cluster that this process belongs to."""

    kind: Kind
    """``cuda`` takes a GPU of the cluster per actor, ``cpu`` a core; ``auto`` takes GPUs if
    the cluster has any. An actor computes on the GPU that Ray gave it."""
    count: int | None = None
    """How many; by default as many as the cluster has GPUs, or cores."""

    def check(self) -> str:
        resource, available = self._resource(_connected().cluster_resources())
        return f"{self.count or available} x {resource} of a Ray cluster"

    def embed(
        self,
        tasks: Collection[Task],
        work: Work[Result],
        tools: Tools,
        *,
        ahead: Callable[[Task], None] | None = None,
        moved: Moved[Task] | None = None,
    ) -> Iterator[Outcome[Task, Result]]:
        ray = _connected()
        resource, available = self._resource(ray.cluster_resources())
        needs = {"num_gpus": 1} if resource == "GPU" else {"num_cpus": 1}
        actor_class = ray.remote(**needs)(ShardEmbedder)
        crew = _Crew(ray, lambda: actor_class.remote(self.kind, tools, work))
        try:
            yield from crew.embed(tasks, self.count or available)
        finally:
            crew.dismiss()

    def _resource(self, cluster: dict[str, float]) -> tuple[str, int]:
        """Name what an actor takes, and say how many of it the cluster has now.

        A cluster that grows on demand may have none yet, and then starts with one actor.
        """
        gpus = int(cluster.get("GPU", 0))
        if self.kind == "cpu" or (self.kind == "auto" and not gpus):
            return "CPU", max(int(cluster.get("CPU", 0)), 1)
        return "GPU", max(gpus, 1)


class ShardEmbedder:
    """What an actor is: the model, once it is loaded, and the log of its work."""

    def __init__(self, kind: Kind, tools: Tools, work: Work[Any]) -> None:
        self.kind, self.tools, self.work = kind, tools, work
        self.device = ""
        self.made: tuple[Any, ...] | None = None
        self.records: list[logging.LogRecord] = []
        RecordSender(self.records.append).install()

    def prepare(self) -> str:
        """Find the device to compute on.

        Returns:
            Why there is none, or nothing.
        """
        gpus = visible_gpus() if self.kind != "cpu" else []
        if self.kind == "cuda" and not gpus:
            return (
                f"machine.device is cuda, and PyTorch finds no GPU on {os.uname().nodename}"
                ", where Ray promised one; mend its driver, or set machine.device to auto"
            )
        # on a CPU it is one core, as a local worker is: Ray sets OMP_NUM_THREADS to 1
        self.device = "cuda:0" if gpus else "cpu"
        return ""

    def do(self, task: Any) -> tuple[Outcome[None, Any], list[logging.LogRecord]]:
        """Do one task, with the model that the first one loaded."""
        try:
            self.made = self.made or self.tools.make(self.device)
        except Exception as error:  # as the first shard's, and the next one tries again
            done: Outcome[Any, Any] = Outcome(task, None, error, 0, self.device)
        else:
            done = do_task(task, self.work, self.made, self.device)
        told = replace(done, task=None, error=sendable_error(done.error))
        records, self.records[:] = list(self.records), []
        return told, records


class _Crew:
    """Actors, what each is asked for, and what is still to be dealt out."""

    def __init__(self, ray: Any, start: Any) -> None:
        self.ray = ray
        self.start = start
        self.asked: dict[Any, tuple[Any, Any]] = {}
        """What Ray will answer, to the actor and its task, which is None at first."""
        self.remaining: deque[Any] = deque()
        self.losses: Counter[Any] = Counter()

    def embed(self, tasks: Collection[Any], count: int) -> Iterator[Outcome[Any, Any]]:
        self.remaining.extend(tasks)
        for _ in range(min(count, len(tasks))):
            self._recruit()
        while self.asked:
            (answer, *_), _ = self.ray.wait(list(self.asked), num_returns=1)
            actor, task = self.asked.pop(answer)
            try:
                found = self.ray.get(answer)
            except self.ray.exceptions.RayTaskError:
                raise  # a fault of this program, not of the cluster
            except self.ray.exceptions.RayError as error:
                yield from self._lost(task, error)
                continue
            if task is None:
                self._check_ready(found)
            self._give_next(actor)
            if task is not None:
                outcome, records = found
                for record in records:
                    log_here(record)
                yield replace(outcome, task=task)

    def dismiss(self) -> None:
        for actor, _ in self.asked.values():
            self.ray.kill(actor)
        self.asked.clear()

    def _check_ready(self, why_not: str) -> None:
        if why_not:
            raise InputError(why_not)
        self.losses[None] = 0

    def _recruit(self) -> None:
        """Ask for an actor; until the cluster has room for it, nobody waits for it."""
        actor = self.start()
        self.asked[actor.prepare.remote()] = actor, None

    def _give_next(self, actor: Any) -> None:
        if self.remaining:
            task = self.remaining.popleft()
            self.asked[actor.do.remote(task)] = actor, task
        else:
            self.ray.kill(actor)

    def _lost(self, task: Any, error: Exception) -> Iterator[Outcome[Any, Any]]:
        """Deal a lost actor's shard out again, unless it seems to be the cause."""
        self.losses[task] += 1
        why = str(error).splitlines()[0]
        if self.losses[task] >= MOST_TRIES:
            if task is None:
                raise CurationError(
                    f"{MOST_TRIES} actors ended before they began, the last one so: {why} "
                    "Every node of the cluster needs this package: see deploy/ray"
                ) from error
            lost = CurationError(
                f"{MOST_TRIES} actors in turn were lost while they worked on {task}, the "
                f"last one so: {why} Other shards go on"
            )
            yield Outcome(task, None, lost, 0, "ray")
        elif task is not None:
            log.warning("%s is dealt out again, for its actor was lost: %s", task, why)
            self.remaining.appendleft(task)
        if self.remaining:
            self._recruit()


def _connected() -> Any:
    """Join the cluster that this process belongs to; a Ray job finds it by itself.

    Raises:
        InputError: Ray is not installed, or no cluster is there.
    """
    if find_spec("ray") is None:
        raise InputError(
            "machine.engine is ray, and Ray is not installed; install the extra: "
            "pip install 'image-text-curation[ray]'"
        )
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            raise InputError(
                "machine.engine is ray, and there is no Ray cluster here; start one with "
                "`ray start --head`, or name one in RAY_ADDRESS, or use engine: local"
            ) from error
    return ray
