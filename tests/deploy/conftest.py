"""What deployments are held to: what one process makes with its records in SQLite.

And a real PostgreSQL: Debian's, with a data folder and a port of its own.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from curation.recipe import Recipe
from curation.testing.image_shards import make_shard
from curation.testing.pictures import encode, make_picture
from curation_assets.ownership import OWNERS
from jobs.definitions import build_definitions
from tests.conftest import ROOT, Curated, free_port

SHARDS = ["a/00000", "a/00001", "a/00002", "b/00003", "b/00004", "b/00005"]
RECIPE = """\
name: small
source: raw
output: curated
encoder: {precision: fp32}
filter: caption_words >= 1 and not is_duplicate
machine: {device: cpu, workers: 1, shards_per_run: 6}
"""

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
"""Of the newest version that Debian's packages installed."""

NOT_ROOT = "postgres" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root; Debian's package adds this user."""


@pytest.fixture(scope="session")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    """Curate six small shards in one process, as ``curate run`` does; to be left as is."""
    from jobs.curate import curate
    from resources.progress import LineProgress

    made = Curated(tmp_path_factory.mktemp("one-process"))
    made.recipe_file.write_text(RECIPE)
    for number, shard in enumerate(SHARDS):
        seeds = [0, *range(10 * number + 1, 10 * number + 4)]  # the first is in every shard
        pictures = [encode(make_picture(seed=seed), "JPEG") for seed in seeds]
        images = {f"{number}-{i}": picture for i, picture in enumerate(pictures)}
        made.source.write(f"{shard}.tar", make_shard(images))
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("DAGSTER_HOME", str(home_with(ROOT / "dagster.yaml", made.folder)))
        assert curate(made.recipe, LineProgress(print)).failed == {}
    return made


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums of several are in another order, and of other bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def home_with(settings: Path, folder: Path) -> Path:
    """Make a new DAGSTER_HOME in a folder, with some deployment's settings."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=folder))
    shutil.copy(settings, home / "dagster.yaml")
    return home


@contextmanager
def open_deployed(settings: dict[str, Any], folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open an instance with a deployment's settings, but for its database."""
    home = folder / "home"
    home.mkdir()
    kept = {key: value for key, value in settings.items() if key != "storage"}
    (home / "dagster.yaml").write_text(yaml.safe_dump(kept))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def queue_run(
    instance: dg.DagsterInstance, assets: Sequence[str], image: str
) -> dg.DagsterRun:
    """Submit a run of some assets, as a UI with a code location in that image does."""
    recipe = Recipe(name="deployed", source="s3://raw", output="s3://curated")
    job = build_definitions(recipe).resolve_implicit_global_asset_job_def()
    pointer = ModuleCodePointer("jobs.definitions", "defs", None)
    repository = RepositoryPythonOrigin(sys.executable, pointer, image)
    location = GrpcServerCodeLocationOrigin("code-location", 4000, location_name="curation")
    run = instance.create_run_for_job(
        job,
        asset_selection={dg.AssetKey(asset) for asset in assets},
        job_code_origin=JobPythonOrigin(job.name, repository),
        remote_job_origin=RemoteJobOrigin(
            RemoteRepositoryOrigin(location, "__repository__"), job.name
        ),
    )
    workspace: Any = None  # asked by nobody
    return instance.submit_run(run.run_id, workspace)


def files_of(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, but for the record of who wrote to it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {path: data for path, data in found.items() if OWNERS not in path.split("/")}


@pytest.fixture
def postgres() -> Iterator[dict[str, str]]:
    """Run a server; give the variables by which ``deploy/*/dagster.yaml`` find it."""
    if PROGRAMS is None:
        pytest.skip("there is no PostgreSQL here: apt-get install postgresql")
    # not under tmp_path, which other users may not enter
    folder = Path(tempfile.mkdtemp(prefix="curation-postgres-"))
    if NOT_ROOT:
        os.chown(folder, pwd.getpwnam(NOT_ROOT).pw_uid, -1)
    try:
        yield from _served(PROGRAMS.parent, folder)
    finally:
        shutil.rmtree(folder)


def _served(programs: Path, folder: Path) -> Iterator[dict[str, str]]:
    data, log, port = str(folder / "data"), str(folder / "log"), str(free_port())
    secret = folder / "password"
    secret.write_text("s3cret %/@:")  # characters that mean something in a URL
    secret.chmod(0o644)
    initdb = ["--username=dagster", f"--pwfile={secret}", "--auth=scram-sha-256"]
    _run(programs / "initdb", "-D", data, *initdb, "--no-sync")
    # fsync off: what these records are worth ends with the test
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    pg_ctl = (programs / "pg_ctl", "-D", data, "-w")
    _run(*pg_ctl, "-l", log, "-o", options, "start")
    try:
        yield {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": port,
            "DAGSTER_PG_DATABASE": "postgres",
            "DAGSTER_PG_USER": "dagster",
            "DAGSTER_PG_PASSWORD": secret.read_text(),
        }
    finally:
        _run(*pg_ctl, "-m", "immediate", "stop")


def _run(*command: str | Path) -> None:
    quiet = subprocess.DEVNULL  # a pipe would stay open as long as the server runs
    subprocess.run(command, user=NOT_ROOT, cwd="/", stdout=quiet, check=True)
