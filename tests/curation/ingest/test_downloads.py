"""Downloads from a real server that answers in every wrong way."""

import asyncio
import hashlib
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curation.errors import MOST_REASON, StorageError
from curation.ingest.downloads import Download, download_images, forbids
from curation.recipe import DownloadSettings
from tests.curation.ingest.web_server import WebServer, photograph, serve_images

HERE = DownloadSettings(max_bytes=100_000, allow_private_addresses=True)


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with serve_images() as serving:
        yield serving


def download(
    urls: list[str], folder: Path, settings: DownloadSettings = HERE
) -> list[Download]:
    targets = {folder / str(number): url for number, url in enumerate(urls)}
    found = download_images(targets, settings)
    assert list(found) == list(targets)
    assert {path for path in folder.iterdir() if path.is_file()} == {
        path for path, one in found.items() if one.error is None
    }
    return list(found.values())


def test_images_come_byte_for_byte(server: WebServer, tmp_path: Path) -> None:
    numbers = range(150)
    found = download([f"{server.url}/image/{n}" for n in numbers], tmp_path)
    for number, one in zip(numbers, found, strict=True):
        data = photograph(number)
        expected = Download(
            tmp_path / str(number), "jpg", len(data), hashlib.sha256(data).hexdigest()
        )
        assert one == expected
        assert one.path.read_bytes() == data


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/absent", "HTTP status 404"),
        ("/flaky/1", "HTTP status 500"),
        ("/html/a.jpg", "no image of a known format: it begins with b'<!DOCTYPE html><'"),
        ("/empty/a.jpg", "the file is empty"),
        ("/gzip/a.jpg", "no image of a known format"),
        (
            "/noai/a.jpg",
            "the server forbids its use: X-Robots-Tag: image-text-curation",
        ),
        ("/large/a.jpg", "more than 100,000 bytes"),
        ("/endless/a.jpg", "more than 100,000 bytes"),
        ("/short/a.jpg", "ClientPayloadError"),
        ("/loop/a.jpg", "redirected more than 5 times"),
        ("/redirect/file:///etc/hostname", "redirected to something else than http"),
        ("/redirect/ftp://127.0.0.1/a.jpg", "redirected to something else than http"),
    ],
)
def test_what_fails_is_a_reason_and_leaves_no_file(
    server: WebServer, tmp_path: Path, path: str, reason: str
) -> None:
    good, bad = download([f"{server.url}/image/7", server.url + path], tmp_path)
    assert good.error is None
    assert (bad.error or "").startswith(reason)


@pytest.mark.parametrize("more", [1, 2, 101, 100_000, 100_001])
def test_what_follows_the_promised_bytes_is_not_looked_at(
    server: WebServer, tmp_path: Path, more: int
) -> None:
    """As urllib does, and curl."""
    url = f"{server.url}/long/{more}"
    (found,) = download([url], tmp_path)
    with urllib.request.urlopen(url) as answer:
        assert found.path.read_bytes() == answer.read() == photograph(0)


def test_a_reason_on_record_is_short(server: WebServer, tmp_path: Path) -> None:
    (found,) = download([f"{server.url}/junk/a.jpg"], tmp_path)
    assert 10 < len(found.error or "") <= MOST_REASON


@pytest.mark.parametrize(
    ("tag", "is_forbidden"),
    [
        ("noindex", True),
        ("all, NoAI", True),
        ("none", True),
        ("*: noimageai", True),
        ("curator: noimageindex", True),
        ("Curator: follow, noai", True),
        ("otherbot: nofollow, curator: noai", True),
        ("noai, otherbot: all", True),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST, noindex", True),
        ("unavailable_after: Friday, 25-Jun-10 15:00:00 GMT, noindex", True),
        ("max-snippet: 5, noindex", True),
        ("otherbot: noindex", False),
        ("otherbot: nofollow, noindex", False),
        ("otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST, noindex", False),
        ("otherbot: max-snippet: 5, noai", False),
        ("googlebot: noindex, otherbot: noai", False),
        ("curator2: noai", False),
        ("max-image-preview: none", False),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST", False),
        ("", False),
        ("all", False),
    ],
)
def test_only_what_is_said_to_us_or_all_forbids(tag: str, is_forbidden: bool) -> None:
    assert forbids(tag, "Curator/1.0 (+https://example.com)") == is_forbidden


def test_an_answer_that_drips_in_ends_at_the_deadline(
    server: WebServer, tmp_path: Path
) -> None:
    (found,) = download(
        [f"{server.url}/drip/a"], tmp_path, HERE.model_copy(update={"timeout_seconds": 0.5})
    )
    assert found.error == "no whole answer within 0.5 s"


def test_redirects_are_followed(server: WebServer, tmp_path: Path) -> None:
    (found,) = download([f"{server.url}/redirect/redirect/image/3"], tmp_path)
    assert (found.error, found.path.read_bytes()) == (None, photograph(3))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/hostname", "only http and https are fetched; found scheme 'file'"),
        ("ftp://127.0.0.1/a.jpg", "only http and https"),
        ("data:image/png;base64,AAAA", "only http and https"),
        ("/etc/hostname", "only http and https are fetched; found scheme ''"),
        ("", "only http and https"),
        ("http://", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://2130706433/", "not a URL"),
        ("http://127.1/", "not a URL"),
        ("http://exa mple:x/", "not a URL"),
        ("http://127.0.0.1:1/a.jpg", "ClientConnectorError"),
        ("http://no-such-host.invalid/a.jpg", "ClientConnectorDNSError"),
    ],
)
def test_what_can_not_be_asked_for_is_a_reason(
    tmp_path: Path, url: str, reason: str
) -> None:
    (found,) = download([url], tmp_path)
    assert (found.error or "").startswith(reason)


def test_addresses_that_are_not_public_are_not_connected_to(
    server: WebServer, tmp_path: Path
) -> None:
    port = server.url.rpartition(":")[2]
    asked = server.asked.total()
    hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"]
    hosts += ["0.0.0.0", "10.0.0.1", "169.254.169.254", "[fe80::1]", "224.0.0.1"]
    hosts += ["[64:ff9b::7f00:1]", "[2002:7f00:1::]"]
    settings = HERE.model_copy(update={"allow_private_addresses": False})
    urls = [f"http://{host}:{port}/image/1" for host in hosts]
    found = download(urls, tmp_path, settings)
    assert [
        one.error for one in found if "no public address" not in (one.error or "")
    ] == []
    assert server.asked.total() == asked


def test_it_can_be_called_by_threads_and_where_a_loop_runs(
    server: WebServer, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()

    def one(folder: Path) -> str | None:
        return download([f"{server.url}/image/1"], folder)[0].error

    async def inside() -> str | None:
        return one(folders[2])

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(one, folders[:2])) == [None, None]
    assert asyncio.run(inside()) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_no_fault_of_a_url(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "0").symlink_to("/dev/full")
    targets = {tmp_path / str(n): f"{server.url}/image/{n}" for n in range(3)}
    with pytest.raises(StorageError, match="No space left"):
        download_images(targets, HERE)
