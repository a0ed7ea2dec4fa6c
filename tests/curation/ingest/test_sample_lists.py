"""Lists of samples, against Python's csv and json."""

import csv
import datetime
import io
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError, NotFoundError
from curation.ingest.sample_lists import metadata_json, read_list
from curation.storage import MemoryStorage
from curation.storage.base import shown_name

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


def stored(name: str, data: bytes) -> MemoryStorage:
    storage = MemoryStorage()
    storage.write(name, data)
    return storage


@given(st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1))
def test_a_csv_is_read_as_python_wrote_it(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("url", "caption"), *rows])
    found = read_list(stored("a.csv", text.getvalue().encode()), "a.csv", "url")
    assert list(zip(*found.to_pydict().values(), strict=True)) == rows


def test_numbers_of_other_columns_are_numbers_and_captions_are_text() -> None:
    data = b"caption,path,score,id\n007,1.jpg,0.5,12\nnull,2.jpg,,13\n"
    found = read_list(stored("a.csv", data), "a.csv", "path")
    assert found.to_pylist() == [
        {"path": "1.jpg", "caption": "007", "score": 0.5, "id": 12},
        {"path": "2.jpg", "caption": "null", "score": None, "id": 13},
    ]


def test_parquet_keeps_its_types() -> None:
    sink = io.BytesIO()
    table = pa.table(
        {"tags": [["a"], None], "url": pa.array(["x", "y"], pa.large_string())}
    )
    pq.write_table(table, sink)
    found = read_list(stored("a.parquet", sink.getvalue()), "a.parquet", "url")
    assert found.to_pydict() == {
        "url": ["x", "y"],
        "caption": [None, None],
        "tags": [["a"], None],
    }


def test_a_text_has_one_url_a_line() -> None:
    found = read_list(stored("a.txt", b"\xef\xbb\xbfx\r\n\n  y \n"), "a.txt", "url")
    assert found["url"].to_pylist() == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"link\nx\n", "expected one column 'url'; found link"),
        ("a.csv", b"url,url\nx,y\n", "expected one column"),
        ("a.csv", b"url,b\nx\n", "can't be read"),
        ("a.csv", b"url\n\xff\xfe\n", "can't be read"),
        ("a.parquet", b"no parquet", "can't be read"),
        ("a.txt", b"\xff\n", "can't be read"),
        ("a.jsonl", b"{}", "expected a list that ends with"),
    ],
)
def test_what_is_no_list_is_refused(name: str, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_list(stored(name, data), name, "url")
    with pytest.raises(NotFoundError):
        read_list(stored(name, data), f"no-{name}", "url")


def test_captions_that_are_no_text_are_refused() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"url": ["x"], "caption": [["a"]]}), sink)
    with pytest.raises(InputError, match="caption has to be text"):
        read_list(stored("a.parquet", sink.getvalue()), "a.parquet", "url")


def test_metadata_is_json_whatever_the_values() -> None:
    row = {
        "number": 1,
        "flag": True,
        "nothing": None,
        "nan": math.nan,
        "huge": -math.inf,
        "list": [0.5, {"a": math.nan}],
        "day": datetime.date(2026, 1, 2),
        "bytes": b"\xff",
        "text": "ü",
    }
    found = json.loads(metadata_json(row))
    assert found == row | {
        "nan": None,
        "huge": None,
        "list": [0.5, {"a": None}],
        "day": "2026-01-02",
        "bytes": r"b'\xff'",
    }
    assert list(found) == list(row)


def test_names_that_are_no_utf_8_can_be_written() -> None:
    assert shown_name(b"a\xff\n\xc3\xbc".decode("utf-8", "surrogateescape")) == "a\\xff\nü"


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", b",,url\r"), ("a.csv", b"\xff\xfe\n"), ("a.parquet", b"PAR1\0PAR1")]
    + [("a.csv", b"n,n,url\n1,2,3\n"), ("a.parquet", b"")],
)
def test_what_is_no_list_is_one_error(name: str, data: bytes) -> None:
    with pytest.raises(InputError, match=name):
        read_list(stored(name, data), name, "url")
