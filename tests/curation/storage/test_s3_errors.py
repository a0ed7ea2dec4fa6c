"""What a server refuses or fails at is told in words that say what to do."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import botocore.auth
import pytest

from curation.errors import InputError, NotFoundError, StorageError
from curation.storage import S3Settings, S3Storage
from curation.storage.s3_errors import MOST_SKEW
from curation_assets.partitions import survey_source
from tests.conftest import ExpiringServer


def test_a_bucket_that_is_not_there_is_named_with_its_setting(
    copying_s3_storage: S3Storage,
) -> None:
    storage = replace(copying_s3_storage, bucket="no-such-bucket")
    for call in (storage.survey, lambda: storage.write("a", b"")):
        with pytest.raises(NotFoundError, match="no bucket 'no-such-bucket'"):
            call()
    with pytest.raises(InputError, match=r"`source` in the recipe: .*no bucket"):
        survey_source(storage)


def test_wrong_credentials_say_what_to_check(
    s3_storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    other = S3Storage(s3_storage.bucket, "p", s3_storage.settings)
    with pytest.raises(InputError, match="check the credentials"):
        other.list_files()


def test_keys_that_expire_while_a_file_is_read_or_written_are_named_but_not_told(
    expiring_s3: ExpiringServer,
) -> None:
    (expiring_s3.folder / "bucket").mkdir()
    (expiring_s3.folder / "bucket" / "there").write_bytes(bytes(70 << 20))
    storage = S3Storage("bucket", settings=expiring_s3.settings)
    told, secret = [], expiring_s3.keys["AWS_SECRET_ACCESS_KEY"]
    with storage.open_reader("there") as reader:
        reader.read(1)
        with pytest.raises(InputError) as caught, storage.open_writer("new") as writer:
            expiring_s3.expire()
            writer.write(bytes(60 << 20))  # more than it holds back
        told.append(caught.value)
        with pytest.raises(InputError) as caught:
            reader.read()
        told.append(caught.value)
    for path, error in zip(("new", "there"), map(str, told), strict=True):
        assert error.startswith(f"s3://bucket/{path}: access denied")
        assert "may have expired" in error and secret not in error
    assert not (expiring_s3.folder / "bucket" / "new").exists()


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken"])
def test_a_token_that_expired_is_one_whatever_is_asked(
    code: str, refusing_s3: Callable[[str], S3Settings]
) -> None:
    storage = S3Storage("bucket", "p", refusing_s3(code))
    for ask in (
        lambda: storage.list_files(),
        lambda: storage.stat("a"),
        lambda: storage.read("a"),
        lambda: storage.read("a", 5, 9),
        lambda: storage.write("a", b"1"),
    ):
        with pytest.raises(InputError, match="may have expired"):
            ask()


@pytest.fixture
def refusing_s3() -> Iterator[Callable[[str], S3Settings]]:
    """Answer every request as AWS answers one with a token that it doesn't take."""
    answer = ""

    class Refuse(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # who writes waits to be told to go on

        def do_GET(self) -> None:
            body = "" if self.command == "HEAD" else f"<Error><Code>{answer}</Code></Error>"
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_HEAD = do_GET  # noqa: N815

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever).start()

        def with_code(code: str) -> S3Settings:
            nonlocal answer
            answer = code
            return S3Settings(endpoint_url=f"http://127.0.0.1:{server.server_port}")

        yield with_code
        server.shutdown()


class Skewed(datetime):
    """This machine's clock, ten minutes fast, or two hours."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Skewed]:
    """Give the clock that requests are signed by, to be set."""
    monkeypatch.setattr(Skewed, "ahead", timedelta(0))
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: Skewed.now(UTC))
    monkeypatch.setattr("curation.storage.s3_errors.datetime", Skewed)
    return Skewed


def test_a_clock_that_is_wrong_is_named_with_both_times(
    s3_storage: S3Storage, clock: type[Skewed]
) -> None:
    s3_storage.write("a", b"1")
    clock.ahead = MOST_SKEW + timedelta(hours=2)
    for ask in (
        lambda: s3_storage.list_files(),
        lambda: s3_storage.stat("a"),
        lambda: s3_storage.write("b", b"1"),
    ):
        with pytest.raises(InputError, match="set this machine's clock") as caught:
            ask()
        ours, theirs = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(caught.value))
        apart = datetime.fromisoformat(ours) - datetime.fromisoformat(theirs)
        assert abs(apart - clock.ahead) < timedelta(minutes=1)


def test_a_clock_that_is_less_wrong_changes_no_version_and_no_time(
    s3_storage: S3Storage, clock: type[Skewed]
) -> None:
    s3_storage.write("a", b"1")
    before = s3_storage.stat("a")
    clock.ahead = timedelta(minutes=10)
    after = s3_storage.stat("a")
    assert (after, after.written_ns) == (before, before.written_ns)


def test_an_unknown_profile_is_a_wrong_setting(s3_server: S3Settings) -> None:
    settings = S3Settings(endpoint_url=s3_server.endpoint_url, profile="no-such-profile")
    with pytest.raises(InputError, match="no-such-profile"):
        S3Storage("bucket", "p", settings).list_files()


def test_a_server_out_of_reach_may_come_back() -> None:
    nobody = S3Settings(endpoint_url="http://127.0.0.1:9", anonymous=True)
    with pytest.raises(StorageError, match="may work later"):
        S3Storage("bucket", "p", nobody).list_files()


def test_a_missing_bucket_is_not_found_when_written_to(s3_server: S3Settings) -> None:
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        S3Storage("no-such-bucket", "p", s3_server).write("a", b"1")
