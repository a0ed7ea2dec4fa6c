"""Whatever a server answers, or not: what is read is right, and what is written whole."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from curation.errors import StaleError
from curation.storage import HttpStorage, LocalCopies, S3Storage, Storage, retries
from curation.storage.base import ByteRange
from tests.faulty_proxy import FAILS, ODD, WRONG, FaultyProxy

DATA = bytes(range(251)) * 40
LONG = bytes(range(251)) * 44_000  # 11 MB
FAULTS = (*FAILS, *WRONG, *ODD)

Read = Callable[[Storage, Storage], object]
READS: dict[str, Read] = {
    "a range": lambda s, _: s.read("a", 300, 5000),
    "from somewhere": lambda s, _: s.read("a", 300),
    "all": lambda s, _: s.read("a"),
    "beyond the end": lambda s, _: s.read("a", len(DATA), len(DATA) + 9),
    "over the end": lambda s, _: s.read("a", 300, len(DATA) + 9),
    "a range of a version": lambda s, u: s.read_version(u.stat("a"), 300, 5000),
    "a version": lambda s, u: s.read_version(u.stat("a")),
    "a version, over the end": lambda s, u: s.read_version(u.stat("a"), 300, 1 << 20),
    "look up": lambda s, _: s.stat("a").size,
    "list": lambda s, _: [(file.path, file.size) for file in s.list_files()],
    "open": lambda s, _: s.open_reader("a").read(),
    "there": lambda s, _: [s.exists("a"), s.exists("b")],
}
WRITES: dict[str, Callable[[Storage], object]] = {
    "write": lambda s: s.write("b", DATA),
    "write much": lambda s: s.write("b", LONG),
    "create": lambda s: s.create("b", DATA) == DATA or s.read("b"),
    "copy": lambda s: s.copy("a", "b"),
    "parts": lambda s: s.write_parts("b", [b"?", ByteRange(s, "long", 5, 11_000_000)]),
    "delete": lambda s: s.delete("a"),
}
SLOW = {"silent": 1, "drips": 1}
"""How many of the ways to fail are tried of those that are waited for."""
LOSE_ANSWERS = ("cut", "lost", "drips", "page")
"""After which nobody knows of an upload that was begun; ``curate prune`` finds it."""
WRITTEN = {"write much": LONG, "parts": b"?" + LONG[5:11_000_000], "delete": None}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once, and don't wait long for an answer."""
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(retries, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(retries, "SLOWEST", 50e6)
    monkeypatch.setattr("curation.storage.s3_uploads.PIECE", 5 << 20)


@pytest.fixture
def s3(
    copying_s3_storage: S3Storage, faulty: Callable[[str], FaultyProxy]
) -> tuple[Storage, Storage, FaultyProxy]:
    """Give a server with a file, the same behind a proxy, and the proxy."""
    upstream = copying_s3_storage
    upstream.write("a", DATA)
    proxy = faulty(str(upstream.settings.endpoint_url))
    return upstream, _behind(upstream, proxy), proxy


@pytest.fixture
def http(
    tmp_path: Path, serve_http: Callable[[Path], str], faulty: Callable[[str], FaultyProxy]
) -> tuple[Storage, Storage, FaultyProxy]:
    (tmp_path / "a").write_bytes(DATA)
    upstream = HttpStorage(serve_http(tmp_path))
    proxy = faulty(upstream.root)
    return upstream, HttpStorage(proxy.url), proxy


OF_RANGES = ("a range", "from somewhere", "over the end", "a range of a version")
OF_RANGES += ("a version, over the end", "parts")
BELIEVED = {
    "s3": {
        *(("of another length", name) for name in ("look up", "open")),
        *(("flipped", name) for name in OF_RANGES),
    },
    "http": {
        *(("of another length", name) for name in ("look up", "list", "open")),
        ("page", "list"),
        *(("flipped", name) for name in READS),
    },
}
"""What nothing tells to be wrong: an answer to a HEAD request, a page of links, a bit of a
range or of what a web server sends."""


@pytest.mark.slow
@pytest.mark.parametrize("server", ["s3", "http"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_read_is_right(
    request: pytest.FixtureRequest, server: str, fault: str
) -> None:
    upstream, behind, proxy = request.getfixturevalue(server)
    for name, read in READS.items():
        if (fault, name) in BELIEVED[server]:
            continue
        expected = read(upstream, upstream)
        for faults in ([fault], ["", fault], [fault, fault])[: SLOW.get(fault)]:
            proxy.faults = list(faults)
            assert read(behind, upstream) == expected, (name, faults)
            proxy.faults = []


@pytest.mark.parametrize("server", ["s3", "http"])
def test_a_look_up_that_told_of_another_length_ends_what_reads_on(
    request: pytest.FixtureRequest, server: str
) -> None:
    _, behind, proxy = request.getfixturevalue(server)
    proxy.faults = ["of another length"]
    with behind.open_reader("a") as reader, pytest.raises(StaleError, match="10040 bytes"):
        reader.read()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "sent flipped"])
def test_what_is_written_is_whole(
    s3: tuple[Storage, Storage, FaultyProxy], fault: str
) -> None:
    upstream, behind, proxy = s3
    upstream.write("long", LONG)
    faults = [[fault], ["", fault], ["", "", fault, fault]][: SLOW.get(fault)]
    for name, told in product(WRITES, faults):
        if (fault, name) in BELIEVED["s3"]:
            continue
        upstream.write("a", DATA)
        upstream.delete("b")
        proxy.faults = list(told)
        WRITES[name](behind)
        proxy.faults = []
        path = "a" if name == "delete" else "b"
        found = upstream.read(path) if upstream.exists(path) else None
        assert found == WRITTEN.get(name, DATA), (name, told)
        if fault not in LOSE_ANSWERS:
            assert upstream.unfinished() == []


@pytest.mark.parametrize("name", ["write", "create"])
def test_a_server_refuses_what_a_bit_of_flipped_on_its_way(
    s3_storage: S3Storage, faulty: Callable[[str], FaultyProxy], name: str
) -> None:
    proxy = faulty(str(s3_storage.settings.endpoint_url))
    behind = _behind(s3_storage, proxy)
    for faults in (["sent flipped"] * 3, ["", "sent flipped"]):
        s3_storage.delete("b")
        proxy.faults = list(faults)
        WRITES[name](behind)
        assert s3_storage.read("b") == WRITTEN.get(name, DATA)


def test_a_copy_of_a_shard_is_compared_with_the_checksum_of_the_whole(
    s3: tuple[S3Storage, Storage, FaultyProxy], tmp_path: Path
) -> None:
    upstream, behind, proxy = s3
    long = bytes(range(251)) * 60_000
    upstream.file_system.call_s3("put_object", **upstream.address("a.tar"), Body=long)
    copies = LocalCopies(tmp_path, 1 << 30)
    proxy.faults = ["", "flipped", "", "", "flipped"]
    source = copies.fetch(behind, "a.tar")
    assert source is not behind
    assert source.read("a.tar") == long
    assert proxy.done == {"flipped": 2}


def _behind(upstream: S3Storage, proxy: FaultyProxy) -> S3Storage:
    settings = replace(upstream.settings, endpoint_url=proxy.url)
    return replace(upstream, settings=settings)
