"""The ECS settings are what CloudFormation, Dagster and ECS itself understand."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import cfnlint
import pytest
import yaml
from cfnlint.decode import cfn_yaml
from dagster._core.launcher import LaunchRunContext
from moto import mock_aws
from moto.ec2.utils import generate_instance_identity_document

from tests.conftest import ROOT
from tests.deploy.conftest import open_deployed, queue_run

FOLDER = ROOT / "deploy/ecs"
IMAGE = "1.dkr.ecr.us-east-1.amazonaws.com/curation:1"


def resources() -> dict[str, Any]:
    found: dict[str, Any] = cfn_yaml.load(str(FOLDER / "stack.yaml"))["Resources"]
    return found


def containers(task: str) -> dict[str, Any]:
    definition = resources()[task]["Properties"]
    return {
        container["Name"]: container for container in definition["ContainerDefinitions"]
    }


def allowed(role: str) -> set[str]:
    """Give the actions that a role may do, whatever it may do them to."""
    statements = [
        statement
        for policy in resources()[role]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    actions = [statement["Action"] for statement in statements]
    return {a for some in actions for a in ([some] if isinstance(some, str) else some)}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Be a task of a cluster that has one instance with a GPU; give ECS's client."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("CURATION_LOG_BUCKET", "logs")
    monkeypatch.setenv("CURATION_RUN_TASK", "curation-run")
    own = {"core": {"passthrough": {"urls": [r"http://127\.0\.0\.1.*"]}}}
    with mock_aws(config=own):  # type: ignore[arg-type]
        ecs, ec2 = boto3.client("ecs"), boto3.resource("ec2")
        ecs.create_cluster(clusterName="curation")
        for family, names in (("curation-run", ["run"]), ("curation-service", ["daemon"])):
            ecs.register_task_definition(
                family=family,
                networkMode="awsvpc",
                cpu="4096",
                memory="16384",
                requiresCompatibilities=["FARGATE", "EC2"],
                containerDefinitions=[
                    {"name": name, "image": IMAGE, "memory": 512} for name in names
                ],
            )
        (machine,) = ec2.create_instances(ImageId="ami-1234abcd", MinCount=1, MaxCount=1)
        document = json.dumps(generate_instance_identity_document(machine))
        ecs.register_container_instance(
            cluster="curation", instanceIdentityDocument=document
        )
        subnet = next(iter(ec2.subnets.all())).id
        group = next(iter(ec2.security_groups.all())).id
        network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
        this = ecs.run_task(
            cluster="curation",
            taskDefinition="curation-service",
            launchType="FARGATE",
            networkConfiguration=network,
        )["tasks"][0]
        with serve_metadata({"Cluster": "curation", "TaskARN": this["taskArn"]}) as url:
            monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", url)
            yield ecs


def test_cloudformation_finds_no_fault_in_the_stack() -> None:
    text = (FOLDER / "stack.yaml").read_text()
    assert cfnlint.lint(text, regions=["us-east-1"]) == []


def test_runs_and_services_have_the_variables_that_the_settings_name() -> None:
    asked = set(named_variables(yaml.safe_load((FOLDER / "dagster.yaml").read_text())))
    for container in containers("ServiceTask").values():
        assert asked <= variables(container)
    run = containers("RunTask")["run"]
    assert asked - {"CURATION_RUN_TASK"} <= variables(run)
    assert "DAGSTER_PG_PASSWORD" in {secret["Name"] for secret in run["Secrets"]}
    assert "CURATION_RECIPE" in variables(run)


def test_only_the_task_of_a_run_that_embeds_gets_a_gpu(
    cluster: Any, tmp_path: Path
) -> None:
    settings = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
    called: set[str] = set()
    with open_deployed(settings, tmp_path) as instance:
        launcher: Any = instance.run_launcher
        launcher.ecs.meta.events.register(
            "before-call.ecs", lambda model, **_: called.add(f"ecs:{model.name}")
        )
        tasks = []
        for assets in (["raw_shard", "embeddings", "scores"], ["selection"]):
            run = queue_run(instance, assets, IMAGE)
            launcher.launch_run(LaunchRunContext(run, workspace=None))
            launched = instance.get_run_by_id(run.run_id)
            assert launched is not None
            arn = launched.tags["ecs/task_arn"]
            tasks += cluster.describe_tasks(cluster="curation", tasks=[arn])["tasks"]
            launcher.check_run_worker_health(launched)
    embeds, decides = tasks
    assert called <= allowed("ServiceRole")
    (capacity,) = (
        r for r in resources().values() if r["Type"].endswith("::CapacityProvider")
    )
    assert embeds["capacityProviderName"] == capacity["Properties"]["Name"]
    assert decides["launchType"] == "FARGATE"
    (container,) = embeds["overrides"]["containerOverrides"]
    assert container["resourceRequirements"] == [{"type": "GPU", "value": "1"}]
    assert (embeds["overrides"]["cpu"], embeds["overrides"]["memory"]) == ("7168", "28672")
    (container,) = decides["overrides"]["containerOverrides"]
    assert "resourceRequirements" not in container
    assert container["name"] in containers("RunTask")
    assert container["command"][1:5] == ["-m", "dagster", "api", "execute_run"]


def test_a_run_may_read_raw_shards_and_write_only_to_the_curated_bucket() -> None:
    assert allowed("RunRole") == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
    }
    (policy,) = resources()["RunRole"]["Properties"]["Policies"]
    for statement in policy["PolicyDocument"]["Statement"]:
        if statement["Action"] not in ("s3:ListBucket", "s3:GetObject"):
            assert "RawBucket" not in json.dumps(statement["Resource"])


def variables(container: dict[str, Any]) -> set[str]:
    return {entry["Name"] for entry in container["Environment"] + container["Secrets"]}


def named_variables(settings: Any) -> Iterator[str]:
    """Find every ``{env: NAME}`` of instance settings."""
    if isinstance(settings, dict):
        if list(settings) == ["env"]:
            yield settings["env"]
        for value in settings.values():
            yield from named_variables(value)


@contextmanager
def serve_metadata(of_task: dict[str, str]) -> Iterator[str]:
    """Serve what ECS tells a task of itself; give the address."""

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(of_task | {"Name": "daemon"}).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
