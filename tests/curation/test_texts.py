"""Texts and JSON as strangers write them, against Python's json and exact arithmetic."""

import codecs
import json
import math
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.texts import (
    MAX_DEPTH,
    Real,
    Whole,
    decode_text,
    format_json,
    load_json,
    parse_json,
    parse_members,
    plain_text,
    printable,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8),  # halves of surrogate pairs too
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def as_python(value: Any) -> Any:
    """Read numbers as Python's json does; NaN compares equal as text."""
    if isinstance(value, dict):
        return {name: as_python(v) for name, v in value.items()}
    if isinstance(value, list):
        return list(map(as_python, value))
    if isinstance(value, Whole):
        return int(value)
    if isinstance(value, Real):
        return repr(float(value))
    return repr(value) if isinstance(value, float) else value


@given(values, st.booleans())
def test_all_that_python_writes_is_read_as_python_reads_it(
    value: Any, escaped: bool
) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    assert as_python(parse_json(text)) == as_python(json.loads(text))
    assert as_python(json.loads(format_json(parse_json(text)))) == as_python(value)


@given(values)
def test_the_text_of_a_value_is_utf8_and_says_what_the_value_is(value: Any) -> None:
    text = plain_text(parse_json(json.dumps(value)))
    if value is None:
        assert text is None
        return
    assert text is not None
    text.encode()
    if not isinstance(value, str):
        assert as_python(json.loads(text)) == as_python(value)
    elif value.isprintable():
        assert text == value


@pytest.mark.parametrize(
    "number",
    ["-0", "-0.0", "1E400", "1e-400", "12345678901234567890123.5", "1" * 5000, "1e2"],
)
def test_numbers_stay_as_they_are_written(number: str) -> None:
    (found,) = parse_json(f"[{number}]")
    assert plain_text(found) == number
    assert Decimal(format_json(found)) == Decimal(number)
    assert isinstance(found, Whole) == (set(number) <= set("-0123456789"))


def test_the_last_of_members_of_one_name_counts_as_for_python() -> None:
    text = '{"a": 1, "b\\u0000.": 2, "": 3, "a": 4}'
    assert as_python(parse_json(text)) == json.loads(text)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 990, 5_000, 200_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"]": ', "}")])
def test_what_is_nested_deep_is_text_and_what_is_beside_it_is_read(
    depth: int, brackets: tuple[str, str]
) -> None:
    opening, closing = brackets
    nested = f'{opening * depth}"[{{\\""{closing * depth}'
    found = parse_json(f'{{"a": 1, "deep": {nested}, "b": [2, {nested}, 3]}}')
    assert as_python([found["a"], found["b"][0], found["b"][2]]) == [1, 2, 3]
    value, levels = found["deep"], 0
    while not isinstance(value, str):
        value, levels = (
            next(iter(value.values() if isinstance(value, dict) else value)),
            (levels + 1),
        )
    if depth < MAX_DEPTH:
        assert (value, levels) == ('[{"', depth)
    else:
        rest = depth - levels
        assert levels == MAX_DEPTH - 1
        assert value == f'{opening * rest}"[{{\\""{closing * rest}'
    format_json(found)


@pytest.mark.parametrize(
    "text", ["", "no", "[1", "[" * 100_000, '{"a" 1}', "[1]]", "{'a': 1}", "[1,]"]
)
def test_what_python_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever Python says of it
        parse_json(text)


@pytest.mark.parametrize(("text", "found"), [("[1]", "a list"), ("1", "a single value")])
def test_what_is_no_object_has_no_members(text: str, found: str) -> None:
    assert parse_members("\ufeff{}") == {}
    with pytest.raises(ValueError, match=f"found {found}"):
        parse_members(text)


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@given(st.text())
def test_a_byte_order_mark_says_how_a_text_is_read(
    mark: bytes, encoding: str, text: str
) -> None:
    if mark or not text.startswith("\ufeff"):
        assert decode_text(mark + text.encode(encoding)) == text


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xff\xfea", "é".encode("utf-16-le")])
def test_what_can_not_be_read_is_marked(data: bytes) -> None:
    assert "\ufffd" in decode_text(data)


def test_a_number_that_is_none_is_no_text_of_another() -> None:
    numbers = [float(v) for v in parse_json("[NaN, Infinity, -Infinity]")]
    assert math.isnan(numbers[0])
    assert numbers[1:] == [math.inf, -math.inf]


STEERING = {"Cc", "Zl", "Zp", "Cs"}  # Unicode's categories, and what turns text around
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text(st.characters()))
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    for character in shown:
        steers = unicodedata.category(character) in STEERING
        assert character in "\t\n" or not steers
        assert unicodedata.bidirectional(character) not in TURNING
    shown.encode()
    if all(c.isprintable() for c in text):
        assert shown == text


@pytest.mark.parametrize("code", [*range(9), *range(11, 32), *range(127, 160)])
def test_every_control_character_is_an_escape(code: int) -> None:
    assert printable(f"a{chr(code)}[2J") == f"a\\x{code:02x}[2J"


@pytest.mark.parametrize(
    "character", "\u200e\u200f\u061c\u202e\u2066\u2028\ufeff\U000e0041"
)
def test_what_turns_or_hides_text_is_an_escape(character: str) -> None:
    assert printable(character) == f"\\u{ord(character):04x}"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{", b"\xff"]
)
def test_json_that_can_not_be_read_is_one_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        load_json(text)
    assert load_json('{"a": [1, null]}') == {"a": [1, None]}
