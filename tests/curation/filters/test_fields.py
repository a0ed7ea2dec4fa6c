"""Fields of JSON and numbers of any length, against Python's json and exact arithmetic."""

import json
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.filters.fields import field_number, field_text, number_in, rest_in, rest_of

names = st.text(st.characters(), max_size=3)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=4)


@given(st.lists(st.dictionaries(names, scalars, max_size=4), min_size=1), st.data())
def test_a_field_is_found_by_any_name(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    known = sorted({name for row in rows for name in row}) or ["x"]
    name = data.draw(st.sampled_from(known))
    frame = pl.DataFrame({"m": [json.dumps({"a": row}) for row in rows]})
    found = frame.select(field_text(pl.col("m"), ["a", name])).to_series().to_list()
    for text, row in zip(found, rows, strict=True):
        value = row.get(name)
        expected = json.dumps(value) if isinstance(value, int) else value
        assert text == expected


@given(st.integers(-(2**178), 2**178))
def test_a_number_and_its_rest_are_the_whole_number(number: int) -> None:
    frame = pl.DataFrame({"t": [str(number)], "m": [f'{{"n": {number}}}']})
    nearest, rest, field = frame.select(
        number_in(pl.col("t")).alias("nearest"),
        rest_in(pl.col("t")).alias("rest"),
        field_number(pl.col("m"), ["n"]).alias("field"),
    ).row(0)
    assert nearest == field == float(number)
    assert Fraction(nearest) + rest == number
    assert rest == rest_of(number)


@pytest.mark.parametrize("text", ["NaN", "inf", "1e400", "-1e400", "x", "", None, "0x1"])
def test_what_is_no_number_is_missing_and_has_no_rest(text: str | None) -> None:
    column = pl.col("t")
    frame = pl.DataFrame({"t": [text]}, schema={"t": pl.String})
    assert frame.select(number_in(column).alias("n"), rest_in(column)).row(0) == (None, 0)
