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

from curation.verify import verify_shards
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import recorded_versions
from jobs.instance import open_instance
from tests.conftest import ROOT, Curated, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHARDS = ["00000", "train/00001", "train/00002"]

LAUNCH = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""

LOOK = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill {
      status
      error { message }
      runs(limit: 100) { id status assetSelection { path } }
      assetBackfillData {
        assetBackfillStatuses {
          ... on AssetPartitionsStatusCounts {
            assetKey { path } numPartitionsTargeted numPartitionsMaterialized
          }
        }
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


def test_a_backfill_of_everything_from_the_ui(empty: Curated, server: Server) -> None:
    assets = Lineage(empty.recipe).assets
    selection = [{"path": [asset]} for asset in assets]
    launched = server.ask(
        LAUNCH, params={"assetSelection": selection, "allPartitions": True}
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    found = wait_for(server, launched["backfillId"])

    assert found["status"] == "COMPLETED_SUCCESS", found
    assert {run["status"] for run in found["runs"]} == {"SUCCESS"}
    # many shards in one run: 3 shards and 2 to a run are 2 runs for each stretch of
    # assets, and one for the groups, whatever the number of assets
    assert len(found["runs"]) == 5
    with open_instance(empty.recipe) as instance:
        for asset in assets:
            if asset != "duplicate_groups":
                assert sorted(recorded_versions(instance, asset)) == SHARDS
    done = verify_shards(empty.output.__class__(empty.folder / "anew"), "filtered")
    assert (done.num_shards, done.differences) == (3, ())

    nodes = {node["assetKey"]["path"][0]: node for node in server.ask(GRAPH)["assetNodes"]}
    assert set(nodes) == set(assets)
    for asset in ("embeddings", "selection", "filtered_shard"):
        (event,) = nodes[asset]["latestMaterializationByPartition"]
        entries = {entry["label"]: entry for entry in event["metadataEntries"]}
        assert entries["samples"]["intValue"] > 0
        assert "data:image/jpeg;base64," in entries["pictures"]["mdStr"]
    (event,) = nodes["selection"]["latestMaterializationByPartition"]
    entries = {entry["label"]: entry for entry in event["metadataEntries"]}
    assert len(entries["reasons"]["table"]["records"]) >= 4


def wait_for(server: Server, backfill: str) -> Any:
    """Wait until a backfill is done."""
    for _ in range(400):
        found = server.ask(LOOK, id=backfill)["partitionBackfillOrError"]
        assert found["__typename"] == "PartitionBackfill", found
        if found["status"] not in ("REQUESTED", "COMPLETING"):
            return found
        time.sleep(2)
    raise AssertionError(f"the backfill is still under way: {found}")
