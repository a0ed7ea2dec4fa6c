"""Any flipped bit of a table is noticed, and other programs read it as any other."""

import io
from random import Random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import TableError
from curation.storage import MemoryStorage
from curation.table_seal import MARK
from curation.tables import (
    SCORES,
    read_about,
    read_footer,
    read_table,
    scan_table,
    write_table,
)

TABLE = pa.table(
    {
        "key": [f"{number:05d}" for number in range(40)],
        "score": pa.array([number / 7 for number in range(39)] + [None], pa.float32()),
    }
)


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage("sealed")
    write_table(storage, "t", SCORES, TABLE, fingerprint="made of this", note="x")
    return storage


def flipped(data: bytes, bit: int) -> bytes:
    harmed = bytearray(data)
    harmed[bit // 8] ^= 1 << bit % 8
    return bytes(harmed)


def test_every_flipped_bit_is_found_by_a_scan(storage: MemoryStorage) -> None:
    data = storage.read("t")
    scan_table(storage, "t")
    for bit in Random(0).sample(range(8 * len(data)), 1500):
        storage.write("t", flipped(data, bit))
        with pytest.raises(TableError, match="not a table that can be read"):
            scan_table(storage, "t")


def test_every_flipped_bit_of_the_footer_is_found_by_whatever_reads_it(
    storage: MemoryStorage,
) -> None:
    data = storage.read("t")
    start = data.index(MARK) + len(MARK) + 4
    for bit in range(8 * start, 8 * len(data)):
        storage.write("t", flipped(data, bit))
        for read in (
            lambda: read_about(storage, "t"),
            lambda: read_footer(storage, "t", SCORES, ["key"]),
            lambda: read_table(storage, "t", SCORES, ["key"]),
        ):
            if bit % 7 == 0:  # all bits by one of them, some by all
                with pytest.raises(TableError):
                    read()
        with pytest.raises(TableError):
            read_about(storage, "t")


def test_a_truncated_table_is_none(storage: MemoryStorage) -> None:
    data = storage.read("t")
    for stop in range(0, len(data), 11):
        storage.write("t", data[:stop])
        with pytest.raises(TableError):
            read_about(storage, "t")


def test_other_programs_read_it(storage: MemoryStorage) -> None:
    data = storage.read("t")
    assert pq.read_table(io.BytesIO(data)).cast(TABLE.schema).equals(TABLE)
    assert pl.read_parquet(io.BytesIO(data)).to_arrow().cast(TABLE.schema).equals(TABLE)


def test_a_footer_longer_than_is_read_at_once_is_whole(storage: MemoryStorage) -> None:
    note = "long " * 50_000
    write_table(storage, "t", SCORES, TABLE, fingerprint="x", note=note)
    assert read_about(storage, "t")["note"] == note
    scan_table(storage, "t")


def test_a_table_without_the_checksums_is_read_as_it_is(storage: MemoryStorage) -> None:
    data = storage.read("t")
    at = data.index(MARK)
    storage.write("t", data[:at] + data[at + len(MARK) + 8 :])
    assert read_table(storage, "t", SCORES).cast(TABLE.schema).equals(TABLE)
    assert read_about(storage, "t")["fingerprint"] == "made of this"
    scan_table(storage, "t")
