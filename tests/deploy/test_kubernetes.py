"""The Kubernetes settings are what Dagster's launcher and Kubernetes itself understand."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster_k8s.client
import kubernetes.client as models
import pytest
import yaml
from dagster._core.launcher import LaunchRunContext
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

from tests.conftest import ROOT
from tests.deploy.conftest import open_deployed, queue_run

FOLDER = ROOT / "deploy/kubernetes"
KINDS = {
    "Namespace": models.V1Namespace,
    "ServiceAccount": models.V1ServiceAccount,
    "Role": models.V1Role,
    "RoleBinding": models.V1RoleBinding,
    "Deployment": models.V1Deployment,
    "Service": models.V1Service,
}
IMAGE = "registry.example.com/curation:1"
VERBS = {"list": "list", "read": "get", "create": "create", "delete": "delete"}
RESOURCES = {
    "job": "jobs",
    "job_status": "jobs/status",
    "pod": "pods",
    "pod_log": "pods/log",
    "event": "events",
}


def manifests() -> list[dict[str, Any]]:
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [d for name in names for d in yaml.safe_load_all((FOLDER / name).read_text())]


def generated() -> dict[str, dict[str, Any]]:
    """Give the config maps that kustomize generates, by name."""
    settings = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return {entry.pop("name"): entry for entry in settings["configMapGenerator"]}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[tuple[Path, list[Any]]]:
    """Listen where a cluster's API would; give the kubeconfig, and the jobs created."""
    created: list[Any] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/apis/batch/v1/namespaces/curation/jobs"
            created.append(json.loads(body))
            self.send_response(201)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kubeconfig = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": f"http://127.0.0.1:{server.server_port}"},
            }
        ],
        "users": [{"name": "test", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    yield tmp_path / "kubeconfig", created
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_manifest_is_what_kubernetes_expects() -> None:
    found = manifests()
    assert {manifest["kind"] for manifest in found} == set(KINDS)
    for manifest in found:
        model = KINDS[manifest["kind"]]
        k8s_model_from_dict(model, k8s_snake_case_dict(model, manifest))


def test_what_is_mounted_or_referred_to_is_there() -> None:
    maps = generated()
    for entry in maps.values():
        assert all((FOLDER / name).is_file() for name in entry.get("files", ()))
    text = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    assert set(re.findall(r"configMap(?:Ref)?: {name: (\S+?)}", text)) <= set(maps)
    image = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"][0]
    assert f'value: "{image["newName"]}:{image["newTag"]}"' in text


def test_the_daemons_account_may_do_what_the_launcher_does_and_no_more() -> None:
    source = Path(dagster_k8s.client.__file__).read_text()
    done = set(re.findall(r"_api\.(\w+?)_namespaced_(\w+)", source))
    needed = {(VERBS[verb], RESOURCES[resource]) for verb, resource in done}
    (role,) = (m for m in manifests() if m["kind"] == "Role")
    allowed = {
        (verb, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    assert allowed == needed


def test_only_the_pod_of_a_run_that_embeds_asks_for_a_gpu(
    tmp_path: Path, jobs: tuple[Path, list[Any]]
) -> None:
    kubeconfig, created = jobs
    settings = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
    settings["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
    }
    with open_deployed(settings, tmp_path) as instance:
        for assets in (["raw_shard", "embeddings", "scores"], ["selection"]):
            run = queue_run(instance, assets, IMAGE)
            instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    embeds, decides = (job["spec"]["template"]["spec"] for job in created)
    gpu = "nvidia.com/gpu"
    assert embeds["containers"][0]["resources"]["limits"][gpu] == "1"
    assert embeds["tolerations"][0]["key"] == gpu
    assert "tolerations" not in decides
    assert decides["containers"][0]["resources"] == {
        "requests": {"cpu": "2", "memory": "8Gi"},
        "limits": {"memory": "16Gi"},
    }
    for pod in (embeds, decides):
        (container,) = pod["containers"]
        assert container["image"] == IMAGE
        assert container["args"][1:5] == ["-m", "dagster", "api", "execute_run"]
        assert pod["serviceAccountName"] == "curation-run"
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == [
            "/etc/curation"
        ]
