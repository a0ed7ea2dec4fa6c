"""What all deployments' instance settings have in common."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster_ray import RayRunLauncher

from tests.conftest import ROOT
from tests.deploy.conftest import open_deployed

DEPLOYMENTS = sorted(path.parent.name for path in (ROOT / "deploy").glob("*/dagster.yaml"))


def settings_of(deployment: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / deployment / "dagster.yaml").read_text())


def test_there_is_a_page_for_each_and_the_readme_leads_to_it() -> None:
    assert DEPLOYMENTS == ["ecs", "kubernetes", "postgres", "ray"]
    readme = (ROOT / "README.md").read_text()
    for deployment in DEPLOYMENTS:
        assert (ROOT / "deploy" / deployment / "README.md").is_file()
        assert f"(deploy/{deployment}/README.md)" in readme


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_what_is_the_same_everywhere_is_the_same_as_on_one_machine(deployment: str) -> None:
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    theirs = settings_of(deployment)
    for part in ("telemetry", "nux", "run_retries", "python_logs"):
        assert theirs[part] == ours[part]
    assert theirs["concurrency"]["pools"] == ours["concurrency"]["pools"]
    assert theirs["run_monitoring"].keys() == ours["run_monitoring"].keys()


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_where_the_database_is_and_its_password_come_from_the_environment(
    deployment: str,
) -> None:
    database = settings_of(deployment)["storage"]["postgres"]["postgres_db"]
    assert database.pop("scheme") == "postgresql+psycopg2"
    assert all(list(value) == ["env"] for value in database.values())


def test_ray_runs_are_jobs_of_the_cluster_and_carry_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOBS_ADDRESS", "http://head:8265")
    monkeypatch.setenv("CURATION_LOG_BUCKET", "logs")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    settings = settings_of("ray")
    with open_deployed(settings, tmp_path) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, RayRunLauncher)
    assert launcher.address == "http://head:8265"
    database = settings["storage"]["postgres"]["postgres_db"]
    named = {value["env"] for value in database.values() if isinstance(value, dict)}
    assert {*named, "CURATION_LOG_BUCKET", "CURATION_RECIPE"} == set(launcher.env_vars)
