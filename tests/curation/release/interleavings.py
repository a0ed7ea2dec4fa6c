"""Releases and takedowns of several processes at once, in every order of their steps.

Each process is a thread that stops before every operation of its storage, until it is its
turn; the order of turns is drawn. ``python -m tests.curation.release.interleavings 1000``
tries that many, and prints what came of them.
"""

import hashlib
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from curation.errors import CurationError
from curation.recipe import Recipe
from curation.release import claims
from curation.release.frozen_plan import (
    open_planned,
    read_plan,
    read_planned_shard,
    write_plan,
)
from curation.release.manifest import Manifest, list_releases, release_folder
from curation.release.publish import (
    ReleaseOptions,
    bring_shard,
    plan_next_release,
    publish_release,
    wanted_by,
)
from curation.release.shard import Target
from curation.release.sources import FilteredReader
from curation.release.takedown import take_down
from curation.release.takedowns import mask_rows, read_takedowns
from curation.storage import MemoryStorage
from curation.storage.base import Listing, StoredFile, Suffix
from curation.tables import FILTERED, read_table
from curation.verify import verify_release
from tests.curation.release.world import (
    FOLDER,
    numbered,
    released,
    samples_of,
    small_recipe,
    write_filtered,
)

TAKEN = "000000001"
"""Key of the sample that takedowns are about, as its raw shard has it."""


class Turns:
    """Lets one process at a time go on, in an order that is given.

    A process counts as waiting as soon as one of its threads waits: others of its threads
    may only wait for that one.
    """

    def __init__(self, draw: Callable[[int], int]) -> None:
        self._draw = draw
        self._condition = threading.Condition()
        self._waiting: dict[int, int] = {}
        """Which processes have not ended, and how many threads of each wait."""
        self._turn: int | None = None

    def begin(self, process: int) -> None:
        """Make a process known, before it starts."""
        self._waiting[process] = 0

    def wait(self, process: int) -> None:
        """Stop until it is the process's turn."""
        with self._condition:
            self._waiting[process] += 1
            self._choose()
            if not self._condition.wait_for(lambda: self._turn == process, timeout=30):
                raise TimeoutError(f"no turn for {process}: {self._waiting}")
            self._turn = None
            self._waiting[process] -= 1
            self._choose()

    def end(self, process: int) -> None:
        """Take no more part."""
        with self._condition:
            del self._waiting[process]
            self._choose()

    def _choose(self) -> None:
        if self._turn is None and self._waiting and all(self._waiting.values()):
            processes = sorted(self._waiting)
            self._turn = processes[self._draw(len(processes))]
            self._condition.notify_all()


@dataclass(frozen=True)
class StepByStep(MemoryStorage):
    """A storage that is shared with others, and each operation of which waits its turn."""

    turns: Turns | None = None
    number: int = 0

    def _wait(self) -> None:
        assert self.turns is not None
        self.turns.wait(self.number)

    def survey(self, folder: str = "", suffix: Suffix = "") -> Listing:
        self._wait()
        names = dict(self.files)  # another thread may write meanwhile, in a test only
        return MemoryStorage(self.name, names).survey(folder, suffix)

    def stat(self, path: str) -> StoredFile:
        self._wait()
        return super().stat(path)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        self._wait()
        return super().read(path, start, stop)

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        with super().open_writer(path) as file:
            yield file
            self._wait()

    def create(self, path: str, data: bytes) -> bytes:
        self._wait()
        return super().create(path, data)

    def delete(self, path: str) -> None:
        self._wait()
        super().delete(path)


@dataclass
class Outcome:
    """What came of one order of steps."""

    told: list[str] = field(default_factory=list)
    """For each process, what it did or the name of its error."""
    wrong: list[str] = field(default_factory=list)
    """What should never be."""


Process = Callable[[StepByStep, Recipe], str]


def make_release(output: StepByStep, recipe: Recipe) -> str:
    """Do what ``curate release`` does."""
    made = publish_release(output, recipe, FOLDER, ["a", "b"], ReleaseOptions(threads=1))
    return f"released {made.name}" if made else "nothing new"


def make_named_release(output: StepByStep, recipe: Recipe) -> str:
    """Do what ``curate release --name`` does."""
    options = ReleaseOptions(name="chosen", threads=1)
    made = publish_release(output, recipe, FOLDER, ["a", "b"], options)
    return "released chosen" if made else "nothing new"


def make_takedown(output: StepByStep, recipe: Recipe) -> str:
    """Do what ``curate takedown`` does."""
    done = take_down(output, recipe, [f"a\t{TAKEN}"], ReleaseOptions(threads=1))
    return f"taken down, {done.release.name}"


def write_planned(output: StepByStep, recipe: Recipe) -> str:
    """Do what a machine does that writes tars of a planned release."""
    options = ReleaseOptions(threads=1)
    planned = plan_next_release(output, recipe, FOLDER, ["a", "b"], options)
    plan = write_plan(output, f"plans/{output.number}.parquet", planned)
    plan = read_plan(output, plan.path)
    target = Target(output, release_folder(plan.release), recipe.release)
    with open_planned(target, plan) as target:
        wanted = wanted_by(planned.previous, FilteredReader(output, FOLDER))
        for number in plan.tars:
            shard = read_planned_shard(output, plan, number, recipe.release)
            bring_shard(target, wanted(shard))
    return f"wrote {len(plan.tars)} tars of {plan.release}"


PROCESSES: dict[str, Process] = {
    "release": make_release,
    "release --name": make_named_release,
    "takedown": make_takedown,
    "release_shard": write_planned,
}


def new_world() -> MemoryStorage:
    """Give an output with one release, and something new for the next."""
    output = MemoryStorage("output")
    write_filtered(output, "a", numbered(6))
    released(output, small_recipe(), "a")
    write_filtered(output, "b", numbered(5, start=10))
    return output


def try_order(names: Sequence[str], draw: Callable[[int], int]) -> Outcome:
    """Run processes at once, each a step at a time, in an order that is drawn.

    Args:
        names: Of processes.
        draw: Gives a number below the one it is given.
    """
    output, turns, outcome = new_world(), Turns(draw), Outcome()
    before = _released(output)
    told: dict[int, str] = {}
    published: dict[str, dict[str, str]] = {}

    def run(number: int, process: Process) -> None:
        storage = StepByStep(output.name, output.files, turns=turns, number=number)
        try:
            told[number] = process(storage, small_recipe())
        except CurationError as error:
            told[number] = type(error).__name__
        except BaseException as error:
            told[number] = f"fault: {error!r}"
            outcome.wrong.append(told[number])
        finally:
            turns.end(number)

    for number in range(len(names)):
        turns.begin(number)
    threads = [
        threading.Thread(target=run, args=(number, PROCESSES[name]))
        for number, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.told = [told[number] for number in range(len(names))]
    published |= _released(output)
    for name, files in before.items():
        if published.get(name) != files:
            outcome.wrong.append(f"{name} changed after it was published")
    outcome.wrong += _wrong_releases(output, outcome.told)
    return outcome


def _released(output: MemoryStorage) -> dict[str, dict[str, str]]:
    """Give the hash of each file of each release."""
    return {
        made.name: {
            file.path: hashlib.sha256(output.read(file.path)).hexdigest()
            for file in output.list_files(made.folder)
        }
        for made in list_releases(output)
    }


def _wrong_releases(output: MemoryStorage, told: Sequence[str]) -> list[str]:
    wrong = []
    releases = list_releases(output)
    names = {made.name for made in releases}
    for made in releases:
        found = verify_release(output, made.folder)
        wrong += [f"{made.name}: {difference}" for difference in found.differences]
        if len(samples_of(output, made)) != made.num_samples:
            wrong.append(f"{made.name}: it has not the samples of its manifest")
    for text in told:
        for name in [word.rstrip(",") for word in text.split() if "0" in word]:
            if text.startswith(("released", "taken")) and name not in names:
                wrong.append(f"{text}, and it is not there")
    if any(text.startswith("taken down") for text in told):
        last = max(releases, key=lambda made: (made.number, made.name))
        wrong += [f"{last.name} has it still"] * _has_taken(output, last)
    return wrong


def _has_taken(output: MemoryStorage, made: Manifest) -> bool:
    taken_down = read_takedowns(output)
    tables = [
        read_table(output, f"{made.folder}/{shard.files[-1].path}", FILTERED)
        for shard in made.shards
    ]
    return any(bool(mask_rows(table, taken_down).any()) for table in tables)


def draw_from(source: random.Random) -> Callable[[int], int]:
    """Draw who goes on, and let each go on for a while, as processes do."""
    state: dict[str, Any] = {"last": 0, "left": 0}

    def draw(threads: int) -> int:
        if not state["left"]:
            state["last"] = source.randrange(threads)
            state["left"] = int(source.expovariate(1 / 20))
        state["left"] = max(state["left"] - 1, 0)
        return int(state["last"]) % threads

    return draw


def main(times: int) -> None:
    """Try many orders, and print what came of them."""
    told: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(times):
        source = random.Random(seed)
        names = source.choices(list(PROCESSES), k=source.choice([2, 2, 3]))
        outcome = try_order(names, draw_from(source))
        told.update(outcome.told)
        wrong += [f"seed {seed}, {names}: {text}" for text in outcome.wrong]
    print(f"{times} interleavings of {', '.join(PROCESSES)}")
    for text, count in told.most_common():
        print(f"{count:6} {text}")
    lost = sum("samples" in text or "changed" in text for text in wrong)
    print(f"lost {lost}, false {len(wrong) - lost}")
    with suppress(IndexError):
        print(wrong[0])


if __name__ == "__main__":
    claims.SIGN_SECONDS = 1e6  # a holder's own thread has no turn
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
