"""Random kills over the whole pipeline: runs, releases, takedowns and prunings.

A chain is a few commands over a small dataset that changes between them. The undisturbed
chain says what every file should be. In a disturbed one commands are killed by SIGKILL at
file events that are drawn, and given again, until each ends as it should. What is published
is looked at after every kill; at the end every file is compared.

``python -m tests.end_to_end.kills 500`` kills that many times, and prints what came of it.
With ``TMPDIR=/dev/shm`` it takes a third less.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from curation.artifacts import CLAIMS
from curation.release.manifest import CARD, MANIFEST
from curation.release.publish import CROISSANT
from curation.storage import LocalStorage
from curation.testing.image_shards import make_shard
from curation.testing.pictures import encode, make_picture
from curation.verify import Verification, verify_release, verify_shards
from curation_assets.ownership import OWNERS
from jobs.exit_codes import EXIT_STORAGE
from tests.end_to_end.killed_commands import Commands, Ended, Moment, serve_commands
from tests.end_to_end.tried import Tried, print_tries

RECIPE = """\
name: killed
source: raw
output: curated
encoder: {model: test_vit, weights: tiny.safetensors, precision: fp32}
duplicates: {min_similarity: 0.999}
filter: top_fraction(width, 0.9) and not is_duplicate
release: {samples_per_shard: 4, npy: true}
machine: {device: cpu, workers: 1, shards_per_run: 2, image_loader: pillow}
"""
SAMPLES_PER_SHARD = 6
MOST_KILLS = 6
"""Of one command, so that a chain comes to its end."""
KILLED = 0.7
"""Share of the times that a command is given at which it is killed."""


@dataclass(frozen=True)
class Step:
    """A command, and which shards the source has when it is given."""

    shards: str
    arguments: tuple[str, ...]


PRUNE = Step("bc", ("prune", "--recipe", "recipe.yaml", "--delete"))
UNFINISHED = ".*.part"
"""Names of files that writes did not end."""
LEFT = "left unfinished"
"""What ``curate verify`` says of a release that a killed process left something in."""

CHAIN = (
    Step("ab", ("run",)),
    Step("ab", ("release",)),
    Step("ab", ("takedown", "unwanted.txt", "--name", "without")),
    Step("bc", ("run",)),  # one is gone at the source, another one is new
    Step("bc", ("release", "--name", "later")),
    PRUNE,
    Step("bc", ("run",)),
)


@dataclass
class KillsTried(Tried):
    """Kills by command and kind of event."""

    def __str__(self) -> str:
        return f"kills {self.made.total()} in {self.chains} chains: {self.told}"


def kill_often(
    folder: Path, kills: int, seed: int = 0, steps: Sequence[Step] = CHAIN
) -> KillsTried:
    """Run disturbed chains until there were so many kills.

    Args:
        folder: An empty one.
        kills: How many at least.
        seed: What is drawn from.
        steps: Of a chain.
    """
    tried, world = KillsTried(), World(folder / "world")
    world.folder.mkdir()
    with serve_commands(world.folder) as commands:
        expected = undisturbed(world, commands, steps)
        while tried.made.total() < kills:
            number = f"{seed}.{tried.chains}"
            chain = Chain(world, commands, expected, Random(number), tried, number)
            chain.run()
            tried.chains += 1
            print(tried, flush=True)
    return tried


@dataclass(frozen=True)
class World:
    """A folder that chains are run in, one after the other, from the same start."""

    folder: Path

    @property
    def output(self) -> LocalStorage:
        return LocalStorage(self.folder / "curated")

    def begin(self) -> None:
        """Make it as it is before a chain."""
        shutil.rmtree(self.folder)
        (self.folder / "home").mkdir(parents=True)
        (self.folder / "recipe.yaml").write_text(RECIPE)
        (self.folder / "unwanted.txt").write_text("b\tb2\n")
        (self.folder / "tiny.safetensors").write_bytes(tiny_weights())

    def set_shards(self, shards: str) -> None:
        """Let the source have these shards, with the times that they always have."""
        raw = self.folder / "raw"
        shutil.rmtree(raw, ignore_errors=True)
        raw.mkdir()
        for shard in shards:
            tar = raw / f"{shard}.tar"
            tar.write_bytes(make_world_tar(shard))
            os.utime(tar, (1e9, 1e9))

    def make_unfinished_old(self) -> None:
        """Pretend that it was long ago that a process was killed."""
        claims = self.output.root.joinpath(CLAIMS).rglob("*.json")
        for place in [*self.unfinished(), *claims]:
            os.utime(place, (1, 1))

    def unfinished(self) -> list[Path]:
        """List what writes left that did not end."""
        return sorted(self.folder.rglob(UNFINISHED))

    def contents(self) -> dict[str, str]:
        """Hash every file of the output, but for what tells the time or names this run."""
        root = self.output.root
        return {
            path.relative_to(root).as_posix(): hashlib.sha256(
                lasting(path.relative_to(root).as_posix(), path.read_bytes())
            ).hexdigest()
            for path in root.rglob("*")
            if path.is_file() and not path.match(UNFINISHED)
        }

    def releases(self) -> dict[str, dict[str, str]]:
        """Hash every file of each release that is published, as it is."""
        return {
            folder.name: {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in folder.iterdir()
                if not path.match(UNFINISHED)
            }
            for folder in self.output.root.glob("releases/*")
            if (folder / MANIFEST).exists()
        }

    def runs_under_way(self) -> list[str]:
        """Give the state of runs that are on record as not ended."""
        with closing(sqlite3.connect(self.folder / "home/history/runs.db")) as records:
            found = records.execute("select status from runs").fetchall()
        return [status for (status,) in found if status not in _ENDED]


_ENDED = ("SUCCESS", "FAILURE", "CANCELED")


def make_world_tar(shard: str) -> bytes:
    """Make a shard with a copy of another one's image, and a damaged image."""
    images = {
        f"{shard}{n}": encode(make_picture(64 + n, 48, seed=10 * ord(shard) + n), "JPEG")
        for n in range(SAMPLES_PER_SHARD)
    }
    images[f"{shard}0"] = encode(make_picture(64, 48), "JPEG")
    images[f"{shard}1"] = images[f"{shard}1"][:300]
    return make_shard(images)


def tiny_weights() -> bytes:
    import timm
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    return save(timm.create_model("test_vit").state_dict())


def lasting(path: str, data: bytes) -> bytes:
    """Leave out what tells the time, or names this world's records, and all its hashes.

    ``curate verify`` compares those hashes with the files.
    """
    name = path.rpartition("/")[2]
    if name == CARD:
        return re.sub(rb"\| created \| .* \|", b"", data)
    if path.startswith(f"{OWNERS}/"):
        return _without(data, "since", "records")
    if name == CROISSANT:
        return _without(data, "datePublished")
    if name == MANIFEST:
        documents = [document["path"] for document in json.loads(data)["documents"]]
        assert documents == [CARD, CROISSANT]
        return _without(data, "created", "card_sha256", "sha256", "documents")
    return data


def _without(data: bytes, *keys: str) -> bytes:
    entries = json.loads(data)
    return json.dumps({key: entries[key] for key in entries if key not in keys}).encode()


def undisturbed(world: World, commands: Commands, steps: Sequence[Step]) -> "Expected":
    """Run a chain with nobody disturbing it."""
    world.begin()
    events = []
    for step in steps:
        world.set_shards(step.shards)
        ended = commands.execute(step.arguments)
        assert ended.code == 0, ended.told
        events.append((step, ended.events))
    return Expected(events, world.contents())


@dataclass(frozen=True)
class Expected:
    """What an undisturbed chain does."""

    steps: Sequence[tuple[Step, Mapping[str, int]]]
    """How many events of each kind each step has."""
    contents: Mapping[str, str]
    """Of the output, at the end."""


@dataclass
class Chain:
    """One disturbed chain."""

    world: World
    commands: Commands
    expected: Expected
    random: Random
    tried: KillsTried
    name: str

    _published: dict[str, dict[str, str]] = field(default_factory=dict)
    """Hashes of the files of each release, as they were when it was published."""

    def run(self) -> None:
        """Go through all steps; a fault ends it."""
        self.world.begin()
        shards = ""
        for step, events in self.expected.steps:
            if step.shards != shards:
                self.world.set_shards(shards := step.shards)
            if step.arguments[0] == "prune":
                self.world.make_unfinished_old()
            if not self._bring(step, events):
                return
        self.world.make_unfinished_old()
        if self._bring(replace(PRUNE, shards=shards), {}):
            self._judge()

    def _bring(self, step: Step, events: Mapping[str, int]) -> bool:
        """Give a command until it ends as it should; tell whether it does."""
        for _ in range(MOST_KILLS):
            ended = self.commands.execute(step.arguments, self._draw(events))
            self._look_at_releases(step, ended)
            if not ended.was_killed:
                return self._ended_well(step, ended)
            self.tried.made[f"{step.arguments[0]}, {ended.moment.split()[0]}"] += 1
        return self._ended_well(step, self.commands.execute(step.arguments))

    def _draw(self, events: Mapping[str, int]) -> Moment | None:
        if not events or self.random.random() > KILLED:
            return None
        kind = self.random.choice(sorted(events))
        return Moment(kind, self.random.randint(1, events[kind]))

    def _ended_well(self, step: Step, ended: Ended) -> bool:
        if ended.code == 0:
            return True
        kind = "blocked" if ended.code in (None, EXIT_STORAGE) else "false"
        self._fault(kind, f"{step.arguments} ended with {ended.code}: {ended.told[-3000:]}")
        return False

    def _look_at_releases(self, step: Step, ended: Ended) -> None:
        """See that what is published is right when it appears, and never changes."""
        found = self.world.releases()
        for name, files in (self._published | found).items():
            if name not in self._published:
                verified = verify_release(self.world.output, f"releases/{name}")
                for text in told_of(verified):
                    if LEFT not in text:
                        self._fault("false", f"{name}: {text}; {step}, {ended.moment}")
                self._published[name] = files
            elif found.get(name) != self._published[name]:
                self._fault("false", f"{name} has changed; {step}, {ended.moment}")

    def _judge(self) -> None:
        """Compare what is there at the end with what an undisturbed chain makes."""
        expected, found = self.expected.contents, self.world.contents()
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                there = [path in one for one in (expected, found)]
                self._fault("lost", f"{path} differs; was there, is there: {there}")
        for text in told_of(verify_shards(self.world.output)):
            self._fault("false", text)
        for place in self.world.unfinished():
            self._fault("lost", f"{place} was not deleted")
        for status in self.world.runs_under_way():
            self._fault("blocked", f"a run is {status} at the end")

    def _fault(self, kind: str, text: str) -> None:
        self.tried.fault(kind, self.name, text)


def told_of(verified: Verification) -> list[str]:
    return [f"{one.path}: {one.found}" for one in verified.differences]


if __name__ == "__main__":
    print_tries(kill_often, "Kill commands at random file events.", "kills", 500)
