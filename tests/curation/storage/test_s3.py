"""S3 does what every storage does, on a real server with signed requests."""

from collections.abc import Callable
from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError, NotFoundError, StaleError
from curation.storage import (
    ByteRange,
    MemoryStorage,
    Part,
    S3Settings,
    S3Storage,
    Storage,
)
from curation.storage.base import StoredFile, part_size
from curation.storage.s3_uploads import LEAST_PIECE, MOST_COPIED, plan_upload
from curation.testing.storage_contract import CreatesContract, StorageContract
from tests.faulty_proxy import FaultyProxy


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, s3_storage: S3Storage) -> S3Storage:
        return s3_storage

    def put(self, storage: Storage, path: str, data: bytes) -> None:
        client, bucket, key = _address(storage, path)
        client.put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, storage: Storage, path: str) -> bytes | None:
        client, bucket, key = _address(storage, path)
        try:
            return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError:
            return None


class TestS3StorageThatCopies(TestS3Storage, CreatesContract):
    """Another server, by another program, which copies ranges itself."""

    @pytest.fixture
    def storage(self, copying_s3_storage: S3Storage) -> S3Storage:
        return copying_s3_storage

    def test_long_ranges_are_copied_by_the_server(self, storage: Storage) -> None:
        data = bytes(range(251)) * 160_000  # 40 MB
        self.put(storage, "from", data)
        cuts = [
            (0, 100),
            (200, 11_000_000),
            (12_000_000, 12_000_100),
            (13_000_000, len(data)),
        ]
        parts: list[Part] = [ByteRange(storage, "from", *cut) for cut in cuts]
        storage.write_parts("to", [*parts, b"end"])
        assert self.get(storage, "to") == b"".join(data[a:b] for a, b in cuts) + b"end"
        # the number behind the dash is that of the parts of an upload
        assert storage.stat("to").version.endswith("-5")

    def test_uploads_that_were_begun_are_found_and_discarded(
        self, storage: Storage
    ) -> None:
        for path in ("a/1.tar", "a/2.tar", "b/3.tar"):
            client, bucket, key = _address(storage, path)
            client.create_multipart_upload(Bucket=bucket, Key=key)
        client.create_multipart_upload(Bucket=bucket, Key="some/prefixes/other.tar")
        assert [file.path for file in storage.unfinished("a")] == ["a/1.tar", "a/2.tar"]
        found = storage.unfinished()
        assert [file.path for file in found] == ["a/1.tar", "a/2.tar", "b/3.tar"]
        assert all(file.written_ns for file in found)  # this server says 2010 of all
        for file in found:
            storage.discard(file)
            storage.discard(file)
        assert storage.unfinished() == []
        left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        assert [upload["Key"] for upload in left] == ["some/prefixes/other.tar"]

    def test_keys_that_are_no_paths_cost_themselves(self, storage: Storage) -> None:
        odd = ["a//1.tar", "a/./2.tar", "a/../3.tar", "/4.tar", "a/b/..//5.tar", "../6.tar"]
        for key in [*odd, "a/good.tar", "a/.hidden.tar", "a/folder/"]:
            client, bucket, top = _address(storage, key)
            client.put_object(Bucket=bucket, Key=top, Body=b"x")
        for suffix in ("", ".tar"):
            listing = storage.survey(suffix=suffix)
            assert [file.path for file in listing.files] == ["a/good.tar"]
            assert [entry.path for entry in listing.unusable] == sorted(odd)
            assert "which no folder can have" in listing.unusable[0].reason

    @pytest.mark.parametrize(("most", "calls"), [(1 << 30, 1), (12 << 20, 3)])
    def test_a_copy_is_made_by_the_server_whatever_its_size(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch, most: int, calls: int
    ) -> None:
        monkeypatch.setattr("curation.storage.s3_uploads.MOST_COPIED", most)
        data = bytes(range(251)) * 130_000  # 33 MB
        self.put(storage, "from", data)
        asked: list[str] = []
        storage.file_system.connect()
        storage.file_system.s3.meta.events.register(
            "before-call.s3", lambda model, **_: asked.append(model.name)
        )
        storage.copy("from", "to")
        assert self.get(storage, "to") == data
        assert sum("Copy" in name for name in asked) == calls
        assert {"GetObject", "PutObject", "UploadPart"}.isdisjoint(asked)

    def test_a_file_that_is_replaced_while_it_is_read_is_not_read_on(
        self, storage: Storage
    ) -> None:
        self.put(storage, "a", bytes(70 << 20))
        with storage.open_reader("a") as reader:
            reader.read(1)
            self.put(storage, "a", bytes(60 << 20))
            with pytest.raises(StaleError, match="/a: 73400320 bytes of version"):
                reader.read()

    @pytest.mark.parametrize(
        ("faults", "call"),
        [
            (["cut"] * 3, lambda s, f: s.read_version(f, 3, 5000)),
            (["503", "cut", "reset"], lambda s, f: s.read_version(f)),
            (["reset"] * 7, lambda s, f: s.read("a", 3, 5000)),
            (["503"], lambda s, f: s.stat("a")),
            (["500"], lambda s, f: [found.path for found in s.list_files()]),
        ],
    )
    def test_what_may_pass_is_waited_for(
        self,
        storage: S3Storage,
        faulty: Callable[[str], FaultyProxy],
        faults: list[str],
        call: Callable[[S3Storage, StoredFile], object],
    ) -> None:
        self.put(storage, "a", bytes(range(256)) * 40)
        file = storage.stat("a")
        proxy = faulty(str(storage.settings.endpoint_url))
        behind = replace(
            storage, settings=replace(storage.settings, endpoint_url=proxy.url)
        )
        expected = call(storage, file)
        proxy.faults = list(faults)
        assert call(behind, file) == expected
        assert not proxy.faults

    def test_an_upload_that_fails_is_forgotten(self, storage: Storage) -> None:
        self.put(storage, "from", bytes(12 << 20))
        parts = [ByteRange(storage, "from", 0, 12 << 20), ByteRange(storage, "none", 0, 5)]
        with pytest.raises(NotFoundError):
            storage.write_parts("to", parts)
        client, bucket, _ = _address(storage, "")
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


MEMORY = MemoryStorage()
RANGES = st.builds(
    lambda start, size: ByteRange(MEMORY, "from", start, start + size),
    st.integers(0, 1 << 40),
    st.one_of(st.integers(0, 1 << 20), st.integers(0, 30 << 20), st.integers(0, 5 << 30)),
)


@given(st.lists(st.one_of(RANGES, st.binary(max_size=100))), st.integers(0, 3))
def test_an_upload_is_planned_in_pieces_that_s3_accepts(
    parts: list[Part], divisor: int
) -> None:
    def can_copy(part: ByteRange) -> bool:
        return not divisor or part.start % divisor == 0

    pieces = list(plan_upload(parts, can_copy))
    sizes = [
        part_size(p) if isinstance(p, ByteRange) else sum(map(part_size, p)) for p in pieces
    ]
    assert all(size >= LEAST_PIECE for size in sizes[:-1])
    copied = [piece for piece in pieces if isinstance(piece, ByteRange)]
    assert all(LEAST_PIECE <= part_size(piece) <= MOST_COPIED for piece in copied)
    flat = [
        p for piece in pieces for p in ([piece] if isinstance(piece, ByteRange) else piece)
    ]
    assert _joined_ranges(flat) == _joined_ranges(parts)


def _joined_ranges(parts: list[Part]) -> list[Part]:
    found: list[Part] = []
    for part in filter(part_size, parts):
        last = found[-1] if found else None
        if isinstance(part, bytes) and isinstance(last, bytes):
            found[-1] = last + part
        elif (
            isinstance(part, ByteRange)
            and isinstance(last, ByteRange)
            and last.stop == part.start
        ):
            found[-1] = replace(last, stop=part.stop)
        else:
            found.append(part)
    return found


def _address(storage: Storage, path: str):  # type: ignore[no-untyped-def]
    assert isinstance(storage, S3Storage)
    client = boto3.client(
        "s3", endpoint_url=storage.settings.endpoint_url, region_name="us-east-1"
    )
    return client, storage.bucket, f"{storage.prefix}/{path}"


@pytest.mark.parametrize(
    "url",
    ["http://me:secret@127.0.0.1:1", "https://secret@host", "http://:secret@h", "secret"]
    + ["http://", "ftp://secret", "http://h:secret", "http://h:99999", "http://[secret"],
)
def test_an_endpoint_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InputError, match=r"expected http://host:port") as caught:
        S3Settings(endpoint_url=url)
    assert "secret" not in str(caught.value) or "@" not in url
    S3Settings(endpoint_url="http://127.0.0.1:9000")
