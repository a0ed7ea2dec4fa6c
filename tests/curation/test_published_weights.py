"""Published weights are fetched once, checked, kept, and supplied by hand offline."""

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from curation import published_weights
from curation.classifiers import AestheticClassifier
from curation.errors import DataError, InputError, NotFoundError, StorageError
from curation.published_weights import (
    PUBLISHED,
    PublishedFile,
    cache_folder,
    published_file,
    weights_hash,
    weights_path,
)

DATA = os.urandom(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CURATION_CACHE", str(folder))
    return folder


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list]]:
    """Run a real web server that answers so; give its URL and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/head.pth", asked
        finally:
            server.shutdown()
            thread.join()


def sends(data: bytes, *, status: int = 200, promised: int | None = None) -> Callable:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(promised or len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def published(url: str) -> PublishedFile:
    return PublishedFile("head.pth", url, SHA256)


def assert_says_how_to_do_it_by_hand(error: BaseException, url: str, cache: Path) -> None:
    for part in (url, str(cache / "head.pth"), "weights: <file>", SHA256):
        assert part in str(error)


def test_a_file_is_fetched_once_and_kept(cache: Path) -> None:
    with served(sends(DATA)) as (url, asked):
        first = weights_path(PUBLISHED, published(url))
        second = weights_path(PUBLISHED, published(url))
    assert first == second == cache / "head.pth"
    assert first.read_bytes() == DATA
    assert asked == ["/head.pth"]
    assert list(cache.iterdir()) == [first]


def test_a_file_put_there_by_hand_is_taken_without_a_network(cache: Path) -> None:
    cache.mkdir()
    (cache / "head.pth").write_bytes(DATA)
    file = published_file(published("http://127.0.0.1:1/head.pth"))
    assert file.read_bytes() == DATA


def test_a_damaged_file_in_the_cache_is_fetched_again_with_a_warning(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir()
    (cache / "head.pth").write_bytes(DATA[:-1])
    with served(sends(DATA)) as (url, asked):
        assert published_file(published(url)).read_bytes() == DATA
    assert len(asked) == 1
    assert f"not {SHA256}" in caplog.text


def test_another_file_at_the_address_is_refused_and_not_kept(cache: Path) -> None:
    with (
        served(sends(b"<html>moved</html>")) as (url, _),
        pytest.raises(DataError) as found,
    ):
        published_file(published(url))
    assert_says_how_to_do_it_by_hand(found.value, url, cache)
    assert "found 18 bytes" in str(found.value)
    assert not cache.exists()


def test_a_file_that_is_far_too_large_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_weights, "MAX_BYTES", 1000)
    with served(sends(DATA)) as (url, _), pytest.raises(DataError, match="1,000") as found:
        published_file(published(url))
    assert_says_how_to_do_it_by_hand(found.value, url, cache)
    assert not cache.exists()


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_is_an_error_of_storage(status: int, cache: Path) -> None:
    answer = sends(b"no", status=status)
    with served(answer) as (url, _), pytest.raises(StorageError) as found:
        published_file(published(url))
    assert_says_how_to_do_it_by_hand(found.value, url, cache)
    assert str(status) in str(found.value)


def test_an_answer_that_breaks_off_may_work_later(cache: Path) -> None:
    answer = sends(DATA[:1234], promised=len(DATA))
    with (
        served(answer) as (url, _),
        pytest.raises(StorageError, match="off 198,766 bytes before"),
    ):
        published_file(published(url))
    assert not cache.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5",
    ],
    ids=["nothing", "no http", "half a chunk"],
)
def test_a_server_that_speaks_no_http_is_an_error_of_storage(
    raw: bytes, cache: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(raw)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    with served(answer) as (url, _), pytest.raises(StorageError) as found:
        published_file(published(url))
    assert_says_how_to_do_it_by_hand(found.value, url, cache)


def test_a_server_that_falls_silent_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_weights, "TIMEOUT_SECONDS", 0.2)
    done = threading.Event()
    with served(lambda _: done.wait(10)) as (url, _):  # type: ignore[arg-type,return-value]
        with pytest.raises(StorageError, match="timed out") as found:
            published_file(published(url))
        done.set()
    assert_says_how_to_do_it_by_hand(found.value, url, cache)


def test_a_server_that_sends_byte_by_byte_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.storage.retries.SILENCE_SECONDS", 0.2)
    monkeypatch.setattr("curation.storage.retries.SLOWEST", 1e9)
    done = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        sends(b"", promised=len(DATA))(handler)
        while not done.wait(0.02):
            handler.wfile.write(b"?")

    with served(drip) as (url, _):
        with pytest.raises(StorageError, match="timed out") as found:
            published_file(published(url))
        done.set()
    assert_says_how_to_do_it_by_hand(found.value, url, cache)


def test_an_unreachable_host_says_how_to_supply_the_file_by_hand(cache: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/head.pth"
        with pytest.raises(StorageError) as found:
            published_file(published(url))
    assert_says_how_to_do_it_by_hand(found.value, url, cache)


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with served(sends(DATA)) as (url, _), pytest.raises(InputError, match=str(cache)):
        published_file(published(url))


def test_a_classifier_fetches_its_head_and_refuses_another(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(sends(DATA)) as (url, _):
        monkeypatch.setattr(
            "curation.classifiers.aesthetic.SOURCE",
            PublishedFile("aesthetic.pth", url, SHA256),
        )
        with pytest.raises(DataError, match=r"aesthetic\.pth: not a file of weights"):
            _ = AestheticClassifier()._affine
    assert (cache / "aesthetic.pth").read_bytes() == DATA


def test_a_file_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(b"anything")
    there = published("http://127.0.0.1:1/head.pth")
    assert weights_path(str(file), there) == file
    assert weights_hash(str(file), there) == hashlib.sha256(b"anything").hexdigest()


def test_a_missing_file_of_ones_own_names_the_published_one() -> None:
    there = published("http://127.0.0.1:1/head.pth")
    for find in (weights_path, weights_hash):
        with pytest.raises(NotFoundError, match=r"mine\.pth: .*127\.0\.0\.1:1/head\.pth"):
            find("mine.pth", there)


def test_the_hash_of_published_weights_needs_neither_network_nor_file(cache: Path) -> None:
    assert weights_hash(PUBLISHED, published("http://127.0.0.1:1/head.pth")) == SHA256
    assert not cache.exists()


def test_the_cache_is_where_the_documentation_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CURATION_CACHE", "~/heads")
    assert cache_folder() == tmp_path / "heads"
    monkeypatch.delenv("CURATION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/curation"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache/curation"
