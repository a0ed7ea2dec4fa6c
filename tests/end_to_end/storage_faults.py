"""A faulty S3 proxy over the whole pipeline: runs, releases and a takedown on a server.

A chain is a few commands over a small dataset in a bucket. The undisturbed chain says what
every object should be. In a disturbed one the proxy before the server fails some requests
and answers others wrongly; commands that give up are given again. At the end every object
is compared, and every release verified.

``python -m tests.end_to_end.storage_faults 10000`` makes that many faults, and prints what
came of them.
"""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from curation.storage import S3Settings, S3Storage
from curation.verify import verify_release, verify_shards
from tests.conftest import serve_copying_s3
from tests.end_to_end.killed_commands import Commands, serve_commands
from tests.end_to_end.kills import RECIPE, lasting, make_world_tar, tiny_weights, told_of
from tests.end_to_end.tried import Tried, print_tries
from tests.faulty_proxy import FAILS, ODD, WRONG, FaultyProxy, Request, serving_faults

Step = tuple[str, tuple[str, ...]]
"""Which shards the source has, and the arguments of a command."""
CHAIN: Sequence[Step] = (
    ("ab", ("run",)),
    ("ab", ("release",)),
    ("ab", ("takedown", "unwanted.txt", "--name", "without")),
    ("bc", ("run",)),  # one is gone at the source, another one is new
    ("bc", ("release", "--name", "later")),
)
FAULTY = 0.3
"""Share of the requests that a fault is drawn for; a wrong answer may not fit."""
MOST_TIMES = 8
"""That a command is given."""
COMPARED = "compared"
"""Folder of what is kept of comparisons, so that none is made twice."""
KINDS = (*WRONG, *WRONG, *ODD, *(fault for fault in FAILS if fault != "sent flipped"))
ON_RECORD = "is on record, found"
"""What is said of a sample whose bytes are others than were embedded."""
SELDOM = ("silent", "drips", "of another length")
"""Which take half a minute each, or end a command: one of a thousand faults."""


@dataclass
class FaultsTried(Tried):
    """Faults of the proxy, by name."""

    requests: int = 0
    given_again: int = 0
    """Commands that gave up."""
    noticed: int = 0
    """Commands that refused samples, a bit of which had flipped on its way."""

    def __str__(self) -> str:
        wrong = sum(self.made[fault] for fault in WRONG)
        return (
            f"{self.made.total()} faults in {self.requests} requests, {wrong} of them "
            f"wrong answers, in {self.chains} chains, {self.given_again} commands given "
            f"again, {self.noticed} flipped bits noticed: {self.told}"
        )


def fail_often(
    folder: Path,
    faults: int,
    seed: int = 0,
    steps: Sequence[Step] = CHAIN,
    share: float = FAULTY,
) -> FaultsTried:
    """Run disturbed chains until there were so many faults.

    Args:
        folder: An empty one.
        faults: How many at least.
        seed: What is drawn from.
        steps: Of a chain.
        share: Of the requests that a fault is drawn for.
    """
    tried, random = FaultsTried(), Random(seed)
    with _worlds(folder) as world, serve_commands(world.folder) as commands:
        world.run(commands, FaultsTried(), steps)
        expected = world.contents()
        assert expected
        while tried.made.total() < faults:
            world.proxy.done.clear()
            world.proxy.draw = lambda _: _drawn(random, share)
            is_done = world.run(commands, tried, steps)
            world.proxy.draw = lambda _: ""
            tried.made.update(world.proxy.done)
            tried.chains += 1
            if is_done:
                world.judge(expected, tried)
            print(tried, flush=True)
    return tried


def _drawn(random: Random, share: float) -> str:
    if random.random() > share:
        return ""
    fault = random.choice(KINDS)
    return fault if fault not in SELDOM or random.random() < 0.02 else "503"


@dataclass(frozen=True)
class World:
    """A folder and a bucket that chains are run in, from the same start each time."""

    folder: Path
    server: S3Storage
    """The bucket, with nothing before it."""
    proxy: FaultyProxy

    def run(self, commands: Commands, tried: FaultsTried, steps: Sequence[Step]) -> bool:
        """Go through all steps of a chain; tell whether it came to its end."""
        draw, self.proxy.draw = self.proxy.draw, _no_fault
        self._begin()
        for shards, arguments in steps:
            self._set_shards(shards)
            self.proxy.draw, before = draw, len(self.proxy.asked)
            ended = self._bring(commands, arguments, tried)
            self.proxy.draw = _no_fault
            tried.requests += len(self.proxy.asked) - before
            if not ended:
                return False
        return True

    def contents(self) -> Mapping[str, str]:
        """Hash every object of the output, but for what tells the time or the order.

        Which shards are compared with which depends on the order that they come in, and
        that on what fails; what is decided does not.
        """
        output = replace(self.server, prefix="curated")
        return {
            file.path: hashlib.sha256(_told(file.path, output.read(file.path))).hexdigest()
            for file in output.list_files()
            if not file.path.startswith(f"{COMPARED}/")
        }

    def judge(self, expected: Mapping[str, str], tried: FaultsTried) -> None:
        """Compare what is there at the end with what an undisturbed chain makes."""
        found, output = self.contents(), replace(self.server, prefix="curated")
        for path in sorted(expected.keys() | found.keys()):
            if expected.get(path) != found.get(path):
                there = [path in one for one in (expected, found)]
                tried.fault(
                    "lost", tried.chains, f"{path} differs; was there, is there: {there}"
                )
        releases = {file.path.split("/")[1] for file in output.list_files("releases")}
        for verified in (
            verify_shards(output),
            *(verify_release(output, f"releases/{name}") for name in sorted(releases)),
        ):
            for text in told_of(verified):
                tried.fault("false", tried.chains, text)

    def _begin(self) -> None:
        for file in self.server.list_files():
            self.server.delete(file.path)
        shutil.rmtree(self.folder)
        (self.folder / "home").mkdir(parents=True)
        settings = f"s3: {{endpoint_url: '{self.proxy.url}', region: us-east-1}}\n"
        places = f"source: {self.server.url}/raw\noutput: {self.server.url}/curated\n"
        recipe = RECIPE.replace("source: raw\noutput: curated\n", places + settings)
        (self.folder / "recipe.yaml").write_text(recipe)
        (self.folder / "unwanted.txt").write_text("b\tb2\n")
        (self.folder / "tiny.safetensors").write_bytes(tiny_weights())

    def _set_shards(self, shards: str) -> None:
        for file in self.server.list_files("raw"):
            if file.path[len("raw/")] not in shards:
                self.server.delete(file.path)
        for shard in shards:
            if not self.server.exists(f"raw/{shard}.tar"):
                self.server.write(f"raw/{shard}.tar", make_world_tar(shard))

    def _bring(
        self, commands: Commands, arguments: tuple[str, ...], tried: FaultsTried
    ) -> bool:
        """Give a command until it ends as it should; tell whether it does."""
        for _ in range(MOST_TIMES):
            ended = commands.execute(arguments)
            if ended.code == 0:
                return True
            if ended.code is None or "Traceback" in ended.told:
                tried.fault("false", tried.chains, f"{arguments}: {ended.told[-4000:]}")
                return False
            tried.given_again += 1
            if ON_RECORD in ended.told:
                # as it says: "is made again when its .tar, .idx and .parquet are deleted"
                tried.noticed += 1
                for file in self.server.list_files("curated/filtered"):
                    self.server.delete(file.path)
                if not self._bring(commands, ("run",), tried):
                    return False
        tried.fault("blocked", tried.chains, f"{arguments}: {ended.told[-4000:]}")
        return False


def _told(path: str, data: bytes) -> bytes:
    """Leave out what tells the time, and the padding of tars, which is on no record."""
    if not path.endswith(".tar"):
        return lasting(path, data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return b"".join(data[m.offset : m.offset_data + m.size] for m in tar)


def _no_fault(_: Request) -> str:
    return ""


@contextmanager
def _worlds(folder: Path) -> Iterator[World]:
    """Start a server with a bucket and a proxy before it."""
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "any"
    (folder / "world").mkdir()
    with serve_copying_s3() as settings, serving_faults(_url(settings)) as proxy:
        bucket = S3Storage("bucket", settings=settings)
        bucket.file_system.call_s3("create_bucket", Bucket="bucket")
        yield World(folder / "world", bucket, proxy)


def _url(settings: S3Settings) -> str:
    assert settings.endpoint_url
    return settings.endpoint_url


if __name__ == "__main__":
    about = "Run the pipeline on a faulty S3 server."
    print_tries(fail_often, about, "faults", 10_000)
