"""A hub is asked once, and not at all for what is in its cache."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from curation.embedders import TimmEmbedder
from curation.errors import InputError
from curation.hub_weights import repository_trouble, url_trouble


class Hub(ThreadingHTTPServer):
    """A hub that gives every request the same answer, and counts them."""

    status = 200
    code = ""
    num_requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        assert isinstance(self.server, Hub)
        self.server.num_requests += 1
        self.send_response(self.server.status)
        self.send_header("X-Error-Code", self.server.code)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (200, "", None),
        (404, "EntryNotFound", None),  # the weights have another name there
        (404, "RepoNotFound", "Not ?Found"),
        (401, "GatedRepo", "Gated"),
        (403, "", "403"),
        (503, "", "503"),
    ],
)
def test_one_request_tells(hub: Hub, status: int, code: str, trouble: str | None) -> None:
    hub.status, hub.code = status, code
    found = repository_trouble("timm/some_model")
    assert hub.num_requests == 1
    if trouble is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(f"{hub.url}/timm/some_model")
        assert re.search(trouble, found)


def test_a_hub_in_trouble_is_not_asked_again_by_whoever_embeds(hub: Hub) -> None:
    hub.status = 503
    with pytest.raises(InputError, match=r"timm's hub .*503.*weights: <file>|Ways"):
        TimmEmbedder("vit_tiny_patch16_224.augreg_in21k").encoder()
    assert hub.num_requests == 1


def test_what_is_in_the_cache_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.status = 503
    repository = tmp_path / "models--timm--some_model"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert repository_trouble("timm/some_model") is None
    assert hub.num_requests == 0


def test_an_address_is_asked_unless_the_file_is_there(hub: Hub, tmp_path: Path) -> None:
    url = f"{hub.url}/weights/model.pth"
    assert url_trouble(url, tmp_path) is None
    hub.status = 404
    assert "404" in (url_trouble(url, tmp_path) or "")
    (tmp_path / "model.pth").touch()
    assert url_trouble(url, tmp_path) is None
    assert hub.num_requests == 2


def test_nobody_at_the_address_is_told() -> None:
    found = url_trouble("http://127.0.0.1:9/model.pth", Path("/nowhere"))
    assert "refused" in (found or "")
