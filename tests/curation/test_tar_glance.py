"""Both ends of a tar tell most of what can be wrong with it."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from curation.storage import MemoryStorage
from curation.tar_glance import glance


def tar_bytes(format: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format) as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number:05}.jpg")
            member.size = 2000
            tar.addfile(member, io.BytesIO(b"x" * 2000))
    return data.getvalue()


def found(data: bytes) -> str | None:
    storage = MemoryStorage()
    storage.write("a.tar", data)
    return glance(storage, storage.stat("a.tar"))


@pytest.mark.parametrize(
    "format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
)
def test_tars_are_good_with_or_without_padding_or_something_after_them(format: int) -> None:
    whole = tar_bytes(format)
    assert found(whole) is None
    assert found(whole[: 3 * (512 + 2048) + 512]) is None
    assert found(whole + b"something" * 100) is None
    assert found(bytes(1024)) is None  # with no members


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"<!DOCTYPE html><html>" + b" " * 5000,
        gzip.compress(tar_bytes()),
        b"PK\x03\x04" + bytes(5000),
        b"\xff\xd8\xff\xe0" + bytes(5000),
        tar_bytes()[:300],
        tar_bytes()[:3000],
        tar_bytes()[: 3 * (512 + 2048)],
    ],
    ids=["empty", "short", "html", "gzip", "zip", "jpeg", "header", "half", "no end"],
)
def test_what_is_no_tar_or_was_cut_off_is_told(data: bytes) -> None:
    assert found(data)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.write("a.tar", tar_bytes())
    file = storage.stat("a.tar")
    storage.delete("a.tar")
    assert "a.tar" in (glance(storage, file) or "")
