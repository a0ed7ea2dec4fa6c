"""Hostile files for ``tests/fuzz.py``: tars, tables, lists of samples, and weights."""

import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st
from safetensors.numpy import save

from curation import key_list
from curation.classifiers.linear_probe import FORMAT, METADATA_KEY, LinearProbe
from curation.errors import CurationError, DataError, InputError, ShardError, TableError
from curation.index import build_index
from curation.ingest.sample_lists import SUFFIXES, read_list
from curation.model_weights import read_weights
from curation.samples import read_samples
from curation.storage import MemoryStorage
from curation.tables import FILTERED, read_about, read_table, scan_table, write_table
from curation.tar import read_members
from curation.testing import tars

CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 255), st.integers(0, 3)), max_size=5
)
"""Of bytes: a place, what stands there then, and how many are gone for it."""


def changed(data: bytes, changes: list[tuple[float, int, int]]) -> bytes:
    """Put a byte in the place of some bytes, at each of some places."""
    for place, byte, length in changes:
        at = int(place * len(data))
        data = data[:at] + bytes([byte]) + data[at + length :]
    return data


TARS = st.builds(
    lambda made, changes: changed(made.to_bytes(), changes), tars.tars(), CHANGES
)


def read_tar(data: bytes) -> None:
    """Of any bytes, samples are ranges of them, with contents that were there."""
    storage = MemoryStorage()
    storage.write("a.tar", data)
    try:
        members = read_members(storage, "a.tar", on_damage="salvage")
    except ShardError:
        return
    index = build_index(members)
    extensions = set(index.components["extension"].to_pylist())
    for sample in read_samples(storage, "a.tar", index, sorted(extensions)):
        for part in sample.components:
            found = sample.contents[part.extension]
            assert found == data[part.start : part.start + part.size]
            assert len(found) == part.size


def _rows() -> pa.Table:
    return pa.table(
        {
            "key": ["a", "b", None],
            "url": ["http://a/1.jpg", None, "x"],
            "path": ["1.jpg", "2.jpg", ""],
            "caption": ["ä", None, "c"],
            "number": [1.5, None, float("nan")],
            "list": pa.array([[1], None, []]),
        }
    )


def _parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def _own_table(about: str) -> bytes:
    storage = MemoryStorage()
    rows = _rows().filter(pa.array([True, True, False]))
    write_table(storage, "t.parquet", FILTERED, rows, fingerprint="x")
    with_about = rows.replace_schema_metadata({b"curation": about.encode()})
    return storage.read("t.parquet") if not about else _parquet(with_about)


PARQUETS = (
    _own_table(""),
    *map(_own_table, ("[" * 9000, "1", "null", '{"table": 1}', "{", "9" * 5000)),
    _parquet(_rows(), use_dictionary=False, compression="none"),
    _parquet(_rows(), data_page_version="2.0", compression="zstd"),
)
TABLES = st.builds(changed, st.sampled_from(PARQUETS), CHANGES)


def read_tables(data: bytes) -> None:
    """Any bytes are a table that can be read to its end, or refused."""
    storage = MemoryStorage()
    storage.write("t.parquet", data)
    for read in (
        lambda: read_table(storage, "t.parquet", FILTERED),
        lambda: read_about(storage, "t.parquet"),
        lambda: scan_table(storage, "t.parquet"),
    ):
        with suppress(TableError):
            read()


_LINES = st.lists(
    st.sampled_from(
        ('"', ",", "url", "path", "caption", "\n", "\r", "\0", "a", "ü", "x" * 99)
    ),
    max_size=20,
).map("".join)
TEXTS = st.builds(
    lambda text, mark: mark + text.encode(),
    _LINES,
    st.sampled_from((b"", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"\xe4")),
)
LISTS = st.tuples(st.sampled_from(SUFFIXES), TEXTS | TABLES)


def read_lists(given: tuple[str, bytes]) -> None:
    """A list has its column as texts, or is told to be none."""
    suffix, data = given
    storage = MemoryStorage()
    storage.write(f"list{suffix}", data)
    with suppress(InputError):
        found = read_list(storage, f"list{suffix}", "url")
        assert found["url"].type == found["caption"].type == pa.string()
    with tempfile.TemporaryDirectory() as folder, suppress(InputError):
        file = Path(folder) / f"list{suffix}"
        file.write_bytes(data)
        assert key_list.read_list(str(file), "key").dtype.is_nested() is False


def _probe(record: str) -> bytes:
    tensors = {"weight": np.ones(4, "f4"), "bias": np.zeros(1, "f4")}
    return save(tensors, metadata={METADATA_KEY: record})


def _pth() -> bytes:
    file = io.BytesIO()
    torch.save({"w": torch.ones(3), "b": {"c": torch.zeros(2)}}, file)
    return file.getvalue()


_ENCODER = json.dumps({"format": FORMAT, "encoder": {"dim": 4}})
WEIGHTS = st.tuples(
    st.sampled_from((".safetensors", ".pth")),
    st.builds(
        changed,
        st.sampled_from((*map(_probe, (_ENCODER, "[" * 9000, "[]", "{}", "")), _pth())),
        CHANGES,
    ),
)


def read_any_weights(given: tuple[str, bytes]) -> None:
    """Weights are tensors, or refused; nothing in them is run."""
    suffix, data = given
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"head{suffix}"
        file.write_bytes(data)
        with suppress(DataError):
            assert all(map(torch.is_tensor, read_weights(file).values()))
        with suppress(CurationError):
            LinearProbe(weights=str(file)).score(np.full((2, 4), 0.5, np.float32))
