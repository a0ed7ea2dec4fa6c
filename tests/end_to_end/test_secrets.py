"""Secrets are planted wherever a URL or a key can have any; none is in anything written.

Servers repeat in every answer all that they were sent, as some do in their errors.
"""

import re
import shutil
import sqlite3
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest

from curation.testing.pictures import encode, make_picture
from jobs.cli import main
from tests.conftest import _home

PLANTED = re.compile("pl4nted|cGw0bnRlZ|BsNG50ZW|wbDRudGVk", re.IGNORECASE)
"""What all secrets begin with; also as it is in base64, at any place of it."""
USER = "pl4ntedUser:pl4nted%2Fpass%40word"
TOKEN = "token=pl4ntedToken%2B1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "pl4ntedAccessKey",
    "AWS_SECRET_ACCESS_KEY": "pl4ntedSecretKey",
    "AWS_SESSION_TOKEN": "pl4ntedSessionToken",
}
ODD = (
    *("refuses", "fails", "junk", "text", "forbids", "elsewhere", "loops", "again"),
    *("short", "gone"),
)
"""Ways in which the server does not answer with an image."""


class _Repeating(BaseHTTPRequestHandler):
    """Serves a folder to whoever has the password and the token, as its paths say."""

    folder: Path

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        kind = path.split("/")[1]
        if kind not in ODD and not (TOKEN in query and self._knows_password()):
            kind = "refuses"
        sent = f"{unquote(self.path)} {self.path} {self.headers['Authorization']}"
        here = f"http://pl4ntedUser:pl4nted@{self.headers['Host']}"
        if kind == "junk":
            self.wfile.write(f"{sent} {sent}\r\n\r\n".encode())
        elif kind == "forbids":
            self._answer(200, sent, {"X-Robots-Tag": f"noai, {sent}"})
        elif kind == "elsewhere":
            self._answer(302, sent, {"Location": f"gopher://pl4nted@x/?{query}"})
        elif kind == "loops":
            self._answer(302, sent, {"Location": f"{here}{self.path}&sig=pl4nted"})
        elif kind == "again":
            self._answer(302, sent, {"Location": f"{here}/refuses?sig=pl4nted"})
        elif kind in ("refuses", "fails", "gone", "text", "short"):
            status = {"refuses": 403, "fails": 500, "gone": 404}.get(kind, 200)
            self._answer(
                status, sent, {"Content-Length": "9999"} if kind == "short" else {}
            )
        elif path == "/":
            self._answer(200, '<a href="a.tar">a</a>', {"Content-Type": "text/html"})
        elif (file := self.folder / path[1:]).is_file():
            self._answer(200, file.read_bytes())
        else:
            self._answer(404, sent)

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

    def _knows_password(self) -> bool:
        wanted = b64encode(unquote(USER).encode()).decode()
        return self.headers["Authorization"] == f"Basic {wanted}"

    def _answer(
        self, status: int, body: str | bytes, headers: dict[str, str] | None = None
    ) -> None:
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status, unquote(self.path))
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _RepeatingS3(_Repeating):
    """Refuses every request of S3, with all its headers in the reason."""

    def do_GET(self) -> None:
        sent = " ".join(f"{name}: {value}" for name, value in self.headers.items())
        error = f"<Error><Code>Odd</Code><Message>{self.path} {sent}</Message></Error>"
        self._answer(400, error.replace("&", "&amp;"))

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[type[_Repeating]], str]]:
    """Run servers; give the host and the port of each."""
    running = []

    def start(kind: type[_Repeating]) -> str:
        handler = type("Handler", (kind,), {"folder": tmp_path / "served"})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


RECIPE = """\
name: {name}
source: {source}
output: {output}
encoder: {{precision: fp32}}
filter: caption_words >= 1
machine: {{device: cpu, workers: 1}}
imports: {imports}
s3: {s3}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(_home(tmp_path)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("curation.storage.retries.DEADLINE_SECONDS", 0.1)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.slow  # an import, two runs and a release
def test_no_secret_is_in_anything_that_is_written(
    folder: Path,
    serve: Callable[[type[_Repeating]], str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    host, s3 = serve(_Repeating), serve(_RepeatingS3)
    locked = f"http://{USER}@{host}"
    _save_list(folder / "served", locked)
    urls = f"{{list: '{locked}/list.csv?{TOKEN}', allow_private_addresses: true}}"
    recipes = {
        "urls": ("raw", "out", f"{{urls: {{web: {urls}}}}}", "{}"),
        "http": (f"{locked}/?{TOKEN}", "out", "{}", "{}"),
        "refused": (f"{locked}/refuses?{TOKEN}", "out", "{}", "{}"),
        "s3": (
            "s3://bucket/raw",
            "s3://bucket/out",
            "{}",
            f"{{endpoint_url: http://{s3}}}",
        ),
        "lists": (
            *("raw2", "out"),
            f"{{images: {{a: {{list: '{locked}/gone/a.csv?{TOKEN}'}}}}, "
            f"urls: {{b: {{list: '{locked}/fails.csv?{TOKEN}'}}}}}}",
            "{}",
        ),
        "wrong": (f"[{locked}]", "out", f"{{urls: '{locked}?{TOKEN}'}}", "{}"),
        "keys": ("s3://pl4nted:pl4nted@bucket", "out", "{}", "{}"),
        "at": ("s3://bucket", "out", "{}", f"{{endpoint_url: 'http://{USER}@{s3}'}}"),
    }
    for name, (source, output, imports, settings) in recipes.items():
        text = RECIPE.format(
            name=name, source=source, output=output, imports=imports, s3=settings
        )
        (folder / f"{name}.yaml").write_text(text)

    def curate(*arguments: object, code: int) -> None:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert (ended.value.code or 0) == code, arguments

    def recipe(name: str) -> tuple[str, Path]:
        return "--recipe", folder / f"{name}.yaml"

    curate("run", *recipe("urls"), code=0)
    curate("status", "--json", *recipe("urls"), code=0)
    curate("explain", "00000000", *recipe("urls"), code=0)
    curate("explain", "00000000", "--json", *recipe("urls"), code=0)
    curate("report", *recipe("urls"), code=0)
    curate("release", *recipe("urls"), code=0)
    shutil.copy(folder / "raw" / "web" / "00000.tar", folder / "served" / "a.tar")
    curate("run", "--until", "shard_index", *recipe("http"), code=0)
    curate("status", "--json", *recipe("http"), code=0)
    curate("doctor", "--json", *recipe("http"), code=0)
    curate("run", *recipe("lists"), code=2)
    for name, code in [("refused", 2), ("s3", 4), ("wrong", 2), ("keys", 2), ("at", 2)]:
        curate("run", *recipe(name), code=code)
        curate("status", *recipe(name), code=code)
    for kind in ("urls", "images"):
        for list_ in ("list.csv", "gone.csv", "fails/list.csv"):
            code = {"list.csv": 0 if kind == "urls" else 2, "gone.csv": 2}.get(list_, 4)
            source = f"{locked}/{list_}?{TOKEN}"
            curate("import", kind, source, folder / "in" / kind, code=code)
    shown = "".join(capfd.readouterr())
    assert host in shown
    assert not _found(shown)
    written = list(_written(folder))
    assert not {str(what): found for what, text in written if (found := _found(text))}
    kinds = {what.suffix for what, _ in written if isinstance(what, Path)}
    assert {".tar", ".parquet", ".json", ".md", ".html", ".db", ".err"} <= kinds
    for kind in ("table", "records"):  # secrets apart, all is there
        texts = [text for what, text in written if str(what).startswith(kind)]
        assert any(
            f"http://{host}/list.csv" in text or "0.jpg?w=1" in text for text in texts
        )


def _found(text: str) -> list[str]:
    return [text[max(0, m.start() - 60) : m.end() + 20] for m in PLANTED.finditer(text)]


def _save_list(folder: Path, locked: str) -> None:
    """Save a list of good URLs, and of one for each way in which they can be bad."""
    folder.mkdir()
    good = [f"{number}.jpg" for number in range(3)]
    for number, name in enumerate(good):
        (folder / name).write_bytes(encode(make_picture(seed=number), "JPEG"))
    signed = "https://b.s3.amazonaws.com/k?X-Amz-Signature=pl4nted&w=1"
    rows = [
        f'{locked}/{path}?w=1&{TOKEN}#access_token=pl4nted,a caption,"{signed}",1'
        for path in [*good, *ODD]
    ]
    rows.append(f"ftp://{USER}@x/?{TOKEN},a caption,see {signed} there,1")
    rows.append(f"http://{USER}@127.0.0.1:9/?{TOKEN},a caption,,1")
    rows.append(f"http://{USER}@[:9/?{TOKEN},a caption,,1")
    text = "\n".join(["url,caption,page,http://pl4nted@x", *rows])
    (folder / "list.csv").write_text(text)


def _written(folder: Path) -> Iterator[tuple[Path | str, str]]:
    """Give all that was written, as text: files, their names, tables, records."""
    for file in sorted(folder.rglob("*")):
        yield f"name of {file}", str(file.relative_to(folder))
        is_ours = file.suffix == ".yaml" or "served" in file.parts
        if file.is_dir() or is_ours:
            continue
        yield file, file.read_bytes().decode("latin-1")
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            yield f"table {file}", f"{table.to_pylist()} {table.schema.metadata}"
        if file.suffix == ".db":
            yield from ((f"records {file}", text) for text in _records(file))


def _records(file: Path) -> Iterator[str]:
    """Give all values of a database; some of Dagster's are compressed."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as records:
        names = records.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in names.fetchall():
            for row in records.execute(f'SELECT * FROM "{name}"'):
                yield from map(_plain, row)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return zlib.decompress(value).decode("latin-1")
        except zlib.error:
            return value.decode("latin-1")
    return str(value)
