"""``curate ui``: its webserver, its daemon, and a backfill that is started there."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from curation.release.manifest import list_releases
from curation.storage import LocalStorage
from curation.verify import verify_shards
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import recorded_versions
from jobs.instance import open_instance
from tests.browser.chromium import needs_chromium, open_browser
from tests.conftest import ROOT, Curated, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_MS = 60_000
SHARDS = ["00000", "train/00001", "train/00002"]

LOOK = """
{
  partitionBackfillsOrError(limit: 10) {
    ... on PartitionBackfills {
      results {
        status
        error { message }
        runs(limit: 100) { id status assetSelection { path } }
      }
    }
  }
}"""

GRAPH = """
{
  assetNodes {
    assetKey { path } groupName kinds description
    dependencyKeys { path }
    latestMaterializationByPartition(partitions: ["00000"]) {
      metadataEntries {
        label
        ... on MarkdownMetadataEntry { mdStr }
        ... on TableMetadataEntry { table { records } }
        ... on IntMetadataEntry { intValue }
      }
    }
  }
}"""


class Server:
    """A running ``curate ui``."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def wait_until_it_answers(self, process: "subprocess.Popen[bytes]") -> None:
        for _ in range(240):
            assert process.poll() is None, "curate ui ended"
            try:
                urllib.request.urlopen(f"{self.url}/server_info", timeout=5).close()
            except OSError:
                time.sleep(0.5)
            else:
                return
        raise RuntimeError("curate ui did not start")


@pytest.fixture
def empty(curated: Curated) -> Curated:
    """Forget all that was made, but for the probe."""
    curated.edit("output: curated", "output: anew")
    home = curated.folder / "home"
    settings = (home / "dagster.yaml").read_text()
    for file in sorted(home.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (home / "dagster.yaml").write_text(settings)
    return curated


@pytest.fixture
def server(empty: Curated) -> Iterator[Server]:
    port = free_port()
    log = empty.folder / "ui.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from jobs.cli import main; main()"]
            + ["ui", "--recipe", str(empty.recipe_file), "--port", str(port)],
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            server = Server(port)
            server.wait_until_it_answers(process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@needs_chromium
def test_a_backfill_of_everything_from_the_ui(empty: Curated, server: Server) -> None:
    assets = Lineage(empty.recipe).assets
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        launch_by_clicking(page, server)
        found = wait_for(server)
        assert found["status"] == "COMPLETED_SUCCESS", found
        look_around(page, server)

    assert {run["status"] for run in found["runs"]} == {"SUCCESS"}
    # many shards in one run: 3 shards and 2 to a run are 2 runs for each stretch of
    # assets, one for the groups, one for the release, whatever the number of assets
    assert len(found["runs"]) == 6
    with open_instance(empty.recipe) as instance:
        for asset in assets:
            if asset != "duplicate_groups":
                assert sorted(recorded_versions(instance, asset)) == SHARDS
    done = verify_shards(LocalStorage(empty.folder / "anew"), "filtered")
    assert (done.num_shards, done.differences) == (3, ())

    nodes = {node["assetKey"]["path"][0]: node for node in server.ask(GRAPH)["assetNodes"]}
    assert set(nodes) == {*assets, "release_plan", "release_shard", "release"}
    (made,) = list_releases(LocalStorage(empty.folder / "anew"))
    assert made.num_samples > 0
    for asset in ("embeddings", "selection", "filtered_shard"):
        (event,) = nodes[asset]["latestMaterializationByPartition"]
        entries = {entry["label"]: entry for entry in event["metadataEntries"]}
        assert entries["samples"]["intValue"] > 0
        assert "data:image/jpeg;base64," in entries["pictures"]["mdStr"]
    (event,) = nodes["selection"]["latestMaterializationByPartition"]
    entries = {entry["label"]: entry for entry in event["metadataEntries"]}
    assert len(entries["reasons"]["table"]["records"]) >= 4


def launch_by_clicking(page: Page, server: Server) -> None:
    """Materialize all assets for all partitions, as a person does it."""
    page.goto(f"{server.url}/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch backfill").click()
    expect(page.get_by_role("button", name="Launch backfill")).to_have_count(0)


def look_around(page: Page, server: Server) -> None:
    """See one partition's numbers and pictures, its checks, and where it is from."""
    page.goto(f"{server.url}/assets/selection?view=partitions&partition=00000")
    expect(page.get_by_text("kept_fraction")).to_be_visible()
    expect(
        page.get_by_role("cell", name="min(width, height) >= 200", exact=True)
    ).to_be_visible()
    page.get_by_text("[Show Markdown]").click()
    picture = page.locator("img[src^='data:image/jpeg']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.goto(f"{server.url}/assets/filtered_shard?view=checks")
    expect(page.get_by_text("filtered_shards_read_back").first).to_be_visible()
    expect(page.get_by_text("Passed").first).to_be_visible()
    page.goto(f"{server.url}/assets/selection?view=lineage&lineageScope=upstream")
    expect(page.get_by_text("duplicates", exact=True).first).to_be_visible()


def wait_for(server: Server) -> Any:
    """Wait until the only backfill is there, and done."""
    for _ in range(400):
        found = server.ask(LOOK)["partitionBackfillsOrError"]["results"]
        if found and found[0]["status"] not in ("REQUESTED", "COMPLETING"):
            return found[0]
        time.sleep(2)
    raise AssertionError(f"the backfill is still under way: {found}")
