"""``curate import urls``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.curation.ingest.web_server import WebServer
from tests.jobs.commands.conftest import Run

HERE = "--allow-private-addresses"


def test_urls_become_shards_and_a_second_run_retries(
    server: WebServer, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    urls = [f"{server.url}{path}" for path in ("/image/0", "/flaky/1", "/absent")]
    (tmp_path / "list.txt").write_text("\n".join(urls))
    arguments = ("import", "urls", tmp_path / "list.txt", tmp_path / "out", HERE)
    told = run_json(*arguments)
    assert (told["urls"], told["images"], told["fetched"]) == (3, 1, 1)
    assert told["errors"] == {"HTTP status 500": 1, "HTTP status 404": 1}
    server.mended = True
    told = run_json(*arguments)
    assert (told["images"], told["fetched"]) == (2, 1)
    assert [shard["shard"] for shard in told["shards"]] == ["00000"]


def test_people_are_told_why_urls_failed(
    server: WebServer, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(f"url\n{server.url}/image/0\nfile:///etc/hostname\n")
    code, out = run("import", "urls", tmp_path / "list.csv", tmp_path / "out", HERE)
    assert code == 0
    assert "only http and https are fetched" in out
    assert "1 of 2 URLs are images" in out


def test_this_machine_is_not_fetched_from_unless_told_so(
    server: WebServer, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{server.url}/image/0\n")
    told = run_json("import", "urls", tmp_path / "list.txt", tmp_path / "out")
    (reason,) = told["errors"]
    assert "127.0.0.1 is no public address" in reason
    assert not server.asked


def test_a_list_that_is_not_there_is_wrong_input(run: Run, tmp_path: Path) -> None:
    assert run("import", "urls", tmp_path / "list.txt", tmp_path / "out")[0] == 2
