"""A web server is read like any storage, whether or not it knows ranges."""

import functools
import http.server
import os
import pickle
import re
import threading
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    StaleError,
    StorageError,
)
from curation.storage import HttpStorage, open_storage, open_stored_file, retries
from tests.faulty_proxy import FaultyProxy

DATA = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.bin").write_bytes(DATA)
    (tmp_path / "a/sp ace+ü.bin").write_bytes(b"odd")
    (tmp_path / "top.txt").write_bytes(b"top")
    (tmp_path / ".hidden").write_bytes(b"")
    return tmp_path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own server, which ignores ranges; it counts what it sends."""

    sent: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.sent.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def without_ranges(folder: Path) -> Iterator[HttpStorage]:
    _Quiet.sent.clear()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield HttpStorage(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.fixture
def with_ranges(folder: Path, serve_http: Callable[[Path], str]) -> HttpStorage:
    return HttpStorage(serve_http(folder))


@pytest.fixture(params=["with_ranges", "without_ranges"])
def storage(request: pytest.FixtureRequest) -> HttpStorage:
    found: HttpStorage = request.getfixturevalue(request.param)
    return found


def test_reads_any_range(storage: HttpStorage) -> None:
    assert storage.read("a/1.bin") == DATA
    assert storage.read("a/1.bin", 3) == DATA[3:]
    assert storage.read("a/1.bin", 300, 500) == DATA[300:500]
    assert storage.read("a/1.bin", 0, 5) == DATA[:5]
    assert storage.read("a/1.bin", len(DATA) - 2, len(DATA) + 50) == DATA[-2:]
    assert storage.read("a/1.bin", len(DATA) + 5, len(DATA) + 9) == b""
    assert storage.read("a/1.bin", 7, 7) == b""


def test_lists_every_file_sorted_with_size_and_version(storage: HttpStorage) -> None:
    listed = storage.list_files()
    assert [f.path for f in listed] == ["a/1.bin", "a/sp ace+ü.bin", "top.txt"]
    assert [f.size for f in listed] == [len(DATA), 3, 3]
    assert listed == [storage.stat(file.path) for file in listed]
    assert all(file.version for file in listed)
    assert [f.path for f in storage.list_files("a", ".bin")] == [f.path for f in listed[:2]]


def test_a_folder_that_is_not_there_is_empty(storage: HttpStorage) -> None:
    assert storage.list_files("nowhere") == []


def test_names_with_odd_characters_are_read(storage: HttpStorage) -> None:
    assert storage.read("a/sp ace+ü.bin") == b"odd"


def test_a_reader_seeks(storage: HttpStorage) -> None:
    with storage.open_reader("a/1.bin") as file:
        file.seek(1000)
        assert file.read(5) == DATA[1000:1005]
        file.seek(-3, 2)
        assert file.read() == DATA[-3:]
        file.seek(0)
        assert file.read() == DATA


def test_a_missing_file_is_not_found(storage: HttpStorage) -> None:
    for call in (storage.read, storage.stat, storage.open_reader):
        with pytest.raises(NotFoundError, match="nowhere/x"):
            call("nowhere/x")
    assert not storage.exists("nowhere/x")


def test_nothing_can_be_written(storage: HttpStorage) -> None:
    for call in (
        lambda: storage.write("x", b""),
        lambda: storage.create("x", b""),
        lambda: storage.delete("x"),
    ):
        with pytest.raises(InputError, match="can only be read"):
            call()


def test_a_server_that_is_not_there_may_be_there_later() -> None:
    with pytest.raises(StorageError, match="may work later"):
        HttpStorage("http://127.0.0.1:9").read("a")


def test_a_file_sent_whole_is_fetched_once(without_ranges: HttpStorage) -> None:
    for start in range(0, len(DATA), 1000):
        without_ranges.read("a/1.bin", start, start + 1000)
    assert _Quiet.sent == ["/a/1.bin"]


def test_can_be_sent_to_another_process(storage: HttpStorage) -> None:
    storage.read("top.txt")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    assert copy.read("top.txt") == b"top"


def test_is_opened_by_url() -> None:
    assert open_storage("https://example.org/set/") == HttpStorage(
        "https://example.org/set"
    )


@pytest.fixture
def proxy(storage: HttpStorage, faulty: Callable[[str], FaultyProxy]) -> FaultyProxy:
    return faulty(storage.root)


CALLS: dict[str, Callable[[HttpStorage], object]] = {
    "a range": lambda s: s.read("a/1.bin", 300, 5000),
    "all": lambda s: s.read("a/1.bin"),
    "look up": lambda s: s.stat("a/1.bin"),
    "list": lambda s: s.list_files(),
    "open": lambda s: s.open_reader("a/1.bin").read(),
    "a version": lambda s: s.read_version(s.stat("a/1.bin"), 300, 5000),
    "exists": lambda s: s.exists("a/1.bin"),
    "does not exist": lambda s: s.exists("a/2.bin"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "faults",
    [["503", "503"], ["429"], ["cut"], ["reset"], ["", "500"], ["408", "502", "504"]],
)
def test_what_may_pass_is_waited_for(
    storage: HttpStorage, proxy: FaultyProxy, call: str, faults: list[str]
) -> None:
    expected = CALLS[call](storage)
    proxy.faults = list(faults)
    assert CALLS[call](HttpStorage(proxy.url)) == expected


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "410", "451"])
def test_what_does_not_pass_is_asked_once(proxy: FaultyProxy, status: str) -> None:
    proxy.faults = [status]
    with pytest.raises((InputError, NotFoundError)):
        HttpStorage(proxy.url).read("a/1.bin", 0, 10)
    assert proxy.asked == ["GET /a/1.bin"]


@pytest.mark.parametrize("call", CALLS)
def test_what_does_not_pass_till_the_deadline_is_an_error(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(retries, "DEADLINE_SECONDS", 0.2)
    proxy.faults = ["503"] * 1000
    with pytest.raises(StorageError, match=r"503.*may work later \(asked \d+ times"):
        CALLS[call](HttpStorage(proxy.url))


def test_a_server_that_never_answered_is_asked_three_times() -> None:
    with pytest.raises(StorageError, match="asked 3 times"):
        HttpStorage("http://127.0.0.1:9").stat("a")


def test_a_range_that_was_not_asked_for_is_not_taken(
    with_ranges: HttpStorage, faulty: Callable[[str], FaultyProxy]
) -> None:
    proxy = faulty(with_ranges.root)
    proxy.faults = ["elsewhere"]
    assert HttpStorage(proxy.url).read("a/1.bin", 300, 500) == DATA[300:500]
    assert proxy.asked.count("GET /a/1.bin") == 2


@pytest.mark.parametrize("became", [DATA[:-1], DATA + b"?", DATA[::-1], b""])
def test_a_file_that_was_replaced_is_not_read_on(
    without_ranges: HttpStorage, folder: Path, became: bytes
) -> None:
    file = without_ranges.stat("a/1.bin")
    assert without_ranges.read_version(file, 5, 9) == DATA[5:9]
    (folder / "a/1.bin").write_bytes(became)
    os.utime(folder / "a/1.bin", (10**9, 10**9))
    with pytest.raises(StaleError, match="was replaced"):
        HttpStorage(without_ranges.root).read_version(file, 300, 400)


class _Odd(http.server.BaseHTTPRequestHandler):
    """A page with links that lead nowhere, are refused, or name no path."""

    def do_GET(self) -> None:
        links = ["good.tar", "gone.tar", "refused.tar", "a%2F%2Fb.tar", "%2E%2E/c.tar"]
        page = "".join(f'<a href="{link}">{link}</a>' for link in links).encode()
        status = {"/gone.tar": 404, "/refused.tar": 403}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page if self.command == "GET" else b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_one_odd_link_costs_itself() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        listing = HttpStorage(f"http://127.0.0.1:{server.server_port}").survey()
        server.shutdown()
    assert [file.path for file in listing.files] == ["good.tar"]
    reasons = {entry.path: entry.reason for entry in listing.unusable}
    assert "no such file" in reasons["gone.tar"]
    assert "refuses it" in reasons["refused.tar"]
    assert "no path inside a storage" in reasons["a//b.tar"]


class _Locked(http.server.SimpleHTTPRequestHandler):
    """Asks for a password and a token, and repeats in its refusals all that it was sent."""

    def send_head(self) -> IO[bytes] | None:
        if "fails" in self.path:
            self._repeat(500)
        elif not self.path.endswith("?token=T0ken&v=1") or not self._knows_password():
            self._repeat(403)
        else:
            return super().send_head()
        return None

    def _knows_password(self) -> bool:
        wanted = b64encode(b"us\xe9r:p@ss/w0rd").decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _repeat(self, status: int) -> None:
        """Refuse, with all in the answer that was in the question."""
        said = f"{self.path} {self.headers.get('Authorization')} p@ss/w0rd"
        self.send_error(status, said, said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def locked(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Locked, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


SECRETS = re.compile("T0ken|p@ss|w0rd|p%40ss|us%C3%A9r|usér|Basic [^…]")


def test_secrets_of_its_url_are_sent_and_never_shown(
    locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "DEADLINE_SECONDS", 0)
    storage = open_storage(f"http://us%C3%A9r:p%40ss%2Fw0rd@{locked}/?token=T0ken&v=1#a")
    assert storage.survey().unusable == []
    assert [file.path for file in storage.list_files()] == [
        *("a/1.bin", "a/sp ace+ü.bin", "top.txt")
    ]
    assert [file.path for file in storage.list_files("a", ".bin")] == [
        *("a/1.bin", "a/sp ace+ü.bin")
    ]
    assert storage.read("a/1.bin", 3, 9) == DATA[3:9]
    assert storage.url == f"http://{locked}"
    lists, path = open_stored_file(
        f"http://us%C3%A9r:p%40ss%2Fw0rd@{locked}/a/1.bin?token=T0ken&v=1"
    )
    assert (lists.read(path), path, lists.url) == (DATA, "1.bin", f"http://{locked}/a")
    shown = [repr(storage), repr(lists), str(storage), f"{storage}"]
    wrong = open_storage(f"http://us%C3%A9r:p%40ss%2Fw0rd@{locked}/?token=T0ken")
    for failing, name in ((storage, "no"), (storage, "fails"), (wrong, "a/1.bin")):
        with pytest.raises(CurationError, match=f"http://{locked}/") as caught:
            failing.read(name)
        shown.append("".join(traceback.format_exception(caught.value)))
    with pytest.raises(InputError) as caught:
        storage.write("a", b"")
    assert not [text for text in [*shown, str(caught.value)] if SECRETS.search(text)]


@pytest.mark.parametrize(
    "url", ["s3://AKIA123:p@ss/w0rd@bucket/a", "s3://AKIA123:p/w0rd@bucket", "s3://me@b"]
)
def test_a_password_for_s3_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(
        InputError, match=r"s3://bucket/prefix.* AWS_SECRET_ACCESS_KEY"
    ) as e:
        open_storage(url)
    assert not re.search("AKIA123|w0rd|me@", str(e.value))
