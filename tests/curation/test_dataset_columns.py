"""Types of columns: settled over all values, and no value is lost by them."""

import io
import json
import math
from fractions import Fraction
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from curation.dataset_columns import (
    MOST_MEMBERS,
    Shape,
    cast_series,
    column_name,
    json_columns,
    series_of,
    shape_of,
    shape_of_series,
)
from curation.texts import parse_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers()
    | st.sampled_from([2**53 + 1, 2**63, 2**64, -(2**63), 10**400])
    | st.floats()
    | st.text(st.characters(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "", "c\0", "\ud800"]), inner)
    ),
    max_leaves=6,
)
NUMBERS = st.integers() | st.integers(-(2**64), 2**64) | st.floats()


def settled(*parts: list[Any]) -> list[pl.Series]:
    """Settle one type over parts of a set, and make the column of each."""
    parsed = [[parse_json(json.dumps(value)) for value in part] for part in parts]
    shape = Shape()
    for part in parsed:
        shape |= shape_of(part)
    return [series_of("v", part, shape.type()) for part in parsed]


def is_value(found: Any, value: Any) -> bool:
    """Tell whether a cell says what the value is, exactly."""
    if isinstance(value, dict):
        names = {column_name(name): v for name, v in value.items()}
        return found.keys() == names.keys() and all(
            is_value(found[name], v) for name, v in names.items()
        )
    if isinstance(value, list):
        return len(found) == len(value) and all(map(is_value, found, value))
    if isinstance(value, str):
        return found == value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(found) == repr(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return not isinstance(found, bool) and Fraction(found) == Fraction(value)
    return found is value


@given(st.lists(st.lists(JSON, max_size=3), min_size=1, max_size=3))
def test_no_value_is_lost_and_all_parts_have_one_type(parts: list[list[Any]]) -> None:
    columns = settled(*parts)
    assert len({column.dtype for column in columns}) == 1
    for column, part in zip(columns, parts, strict=True):
        as_text = column.dtype == pl.String
        for found, value in zip(column.to_list(), part, strict=True):
            if as_text and not isinstance(value, str | None):
                assert repr(json.loads(found)) == repr(value)
            else:
                assert is_value(found, value)
        file = io.BytesIO()  # whatever it is, it can be saved
        pq.write_table(column.to_frame().to_arrow(), file)
        assert_series_equal(pl.DataFrame(pq.read_table(file))["v"], column)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_numbers_are_numbers_where_a_type_holds_them_all(values: list[float]) -> None:
    (column,) = settled(values)
    whole = all(isinstance(value, int) for value in values)
    low, high = min(0, *values, 0), max(0, *values, 0)
    if whole and low >= -(2**63) and high < 2**63:
        expected: Any = pl.Int64
    elif whole and low == 0 and high < 2**64:
        expected = pl.UInt64
    elif not whole and all(isinstance(v, float) or _is_float(v) for v in values):
        expected = pl.Float64
    else:
        expected = pl.String
    assert column.dtype == expected


def _is_float(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


@pytest.mark.parametrize(
    ("documents", "kind", "cells"),
    [
        (["null"], pl.String(), [None]),
        (["true", "null"], pl.Boolean(), [True, None]),
        (["true", "1"], pl.String(), ["true", "1"]),
        (["1", '"1"'], pl.String(), ["1", "1"]),
        (["1.50", '"x"', "1e400"], pl.String(), ["1.50", "x", "1e400"]),
        (["1", "0.5"], pl.Float64(), [1.0, 0.5]),
        (["0.5", "1e400"], pl.String(), ["0.5", "1e400"]),
        (["0.5", "1e-400"], pl.String(), ["0.5", "1e-400"]),
        (["0.0", "0e5", "-0.0"], pl.Float64(), [0.0, 0.0, -0.0]),
        (["[1]", '"x"'], pl.String(), ["[1]", "x"]),
        (["[1, null]", "[]"], pl.List(pl.Int64()), [[1, None], []]),
        (["[1]", "[2.5]"], pl.List(pl.Float64()), [[1.0], [2.5]]),
        (['[1, "a"]'], pl.String(), ['[1,"a"]']),
        (["[[1], [2, 3]]"], pl.List(pl.List(pl.Int64())), [[[1], [2, 3]]]),
        (["[]"], pl.List(pl.String()), [[]]),
        (["{}"], pl.String(), ["{}"]),
        (['{"a": 1}', "5"], pl.String(), ['{"a":1}', "5"]),
        (['{"a": 1}', '{"b": 1}'], pl.String(), ['{"a":1}', '{"b":1}']),
        (['{"a": 1}', "{}"], pl.String(), ['{"a":1}', "{}"]),
        (
            ['{"a": 1, "b": "x"}', '{"b": null, "a": 2}', "null"],
            pl.Struct({"a": pl.Int64(), "b": pl.String()}),
            [{"a": 1, "b": "x"}, {"a": 2, "b": None}, None],
        ),
        ([r'"\ud83d"'], pl.String(), [r"\ud83d"]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_the_rule(
    documents: list[str], kind: pl.DataType, cells: list[Any], apart: bool
) -> None:
    values = [parse_json(document) for document in documents]
    parts = [[value] for value in values] if apart else [values]
    shape = Shape()
    for part in parts:
        shape |= shape_of(part)
    assert shape.type() in (kind, None if kind == pl.String() else kind)
    column = pl.concat([series_of("v", part, shape.type()) for part in parts])
    assert (column.dtype, column.to_list()) == (kind, cells)


TABLES = [
    ([1, 2], pl.Int32, [3], pl.Int32, pl.Int32()),
    ([1, 2], pl.Int32, [2**40], pl.Int64, pl.Int64()),
    ([1], pl.Int64, [2**63], pl.UInt64, pl.UInt64()),
    ([-1], pl.Int64, [2**63], pl.UInt64, None),
    ([1], pl.Int64, [0.5], pl.Float32, pl.Float64()),
    ([2**53 + 1], pl.Int64, [0.5], pl.Float64, None),
    ([1], pl.Int64, ["x"], pl.String, None),
    ([1], pl.Int64, [None], pl.Null, pl.Int64()),
    ([[1]], pl.List(pl.Int32), [[0.5]], pl.List(pl.Float32), pl.List(pl.Float64())),
    ([[1]], pl.List(pl.Int32), ["x"], pl.String, None),
    ([{"a": 1}], pl.Struct({"a": pl.Int8}), [{"a": 2}], pl.Struct({"a": pl.Int16}),
     pl.Struct({"a": pl.Int64})),
    ([b"\1"], pl.Binary, ["x"], pl.String, None),
]  # fmt: skip


@pytest.mark.parametrize(("one", "of", "other", "of_other", "expected"), TABLES)
def test_columns_of_tables_are_settled_alike(
    one: list[Any], of: Any, other: list[Any], of_other: Any, expected: pl.DataType | None
) -> None:
    columns = [pl.Series("v", one, of), pl.Series("v", other, of_other)]
    kind = (shape_of_series(columns[0]) | shape_of_series(columns[1])).type()
    assert kind == expected
    found = pl.concat([cast_series(column, kind) for column in columns]).to_list()
    if expected is not None:
        assert found == one + other
    else:
        assert all(isinstance(value, str) for value in found)


def test_a_table_beside_json_has_its_type_where_that_holds_both() -> None:
    stored = shape_of_series(pl.Series("v", [1], pl.Int32))
    assert (stored | shape_of([parse_json("7")])).type() == pl.Int64()
    assert (stored | shape_of([parse_json('"x"')])).type() is None


def test_too_many_members_are_no_columns() -> None:
    assert json_columns('{"a\\u0000": 1, "\\ud800": 2}') == {"a\\x00": "1", "\\ud800": "2"}
    assert column_name("") == '""'
    members = ",".join(f'"{n}": 0' for n in range(MOST_MEMBERS + 1))
    with pytest.raises(ValueError, match="1,001 members"):
        json_columns(f"{{{members}}}")
