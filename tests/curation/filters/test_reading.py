"""Every part of an expression has one kind, and the value that a plain evaluator gives it.

The expected values come from an evaluator of its own: Python numbers and texts, with None
for what is missing, one row at a time.
"""

import json
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import InputError, UnknownNameError
from curation.filters import FILTERS, Filter, Schema, make_filter

SCHEMA: Schema = {
    "a": "number",
    "b": "number",
    "t": "text",
    "u": "text",
    "f": "flag",
    "g": "flag",
    "m": "json",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A piece of expression, and what Python makes of it."""

    text: str
    value: Callable[[Row], Any]


def combine(template: str, compute: Callable[..., Any], *parts: Part) -> Part:
    """Compute from parts; missing if one of them is."""

    def value(row: Row) -> Any:
        values = [part.value(row) for part in parts]
        return None if any(v is None for v in values) else compute(*values)

    return Part(template.format(*(part.text for part in parts)), value)


def finite(compute: Callable[..., float]) -> Callable[..., float | None]:
    def guarded(*values: float) -> float | None:
        try:
            result = compute(*values)
        except (ZeroDivisionError, ValueError, OverflowError):
            return None
        if isinstance(result, complex) or not math.isfinite(result):
            return None
        return float(result)

    return guarded


def either(left: Part, right: Part) -> Part:
    def value(row: Row) -> bool | None:
        sides = [left.value(row), right.value(row)]
        return True if True in sides else None if None in sides else False

    return Part(f"({left.text} or {right.text})", value)


def both(left: Part, right: Part) -> Part:
    def value(row: Row) -> bool | None:
        sides = [left.value(row), right.value(row)]
        return False if False in sides else None if None in sides else True

    return Part(f"({left.text} and {right.text})", value)


def column(name: str) -> Part:
    return Part(name, lambda row: row[name])


written = st.sampled_from([0, 1, -2, 0.5, 3.25, 100]).map(
    lambda n: Part(str(n), lambda _row: float(n))
)
NUMBER_RULES: list[tuple[str, Callable[..., float], int]] = [
    ("({} + {})", lambda x, y: x + y, 2),
    ("({} - {})", lambda x, y: x - y, 2),
    ("({} * {})", lambda x, y: x * y, 2),
    ("({} / {})", lambda x, y: x / y, 2),
    ("min({}, {})", min, 2),
    ("max({}, {}, 1)", lambda x, y: max(x, y, 1.0), 2),
    ("abs({})", abs, 1),
    ("sqrt({})", math.sqrt, 1),
    ("floor({})", math.floor, 1),
    ("(-{})", lambda x: -x, 1),
]


def number_rules(numbers: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    return st.one_of(
        *(
            st.tuples(*[numbers] * count).map(
                lambda parts, t=template, c=compute: combine(t, finite(c), *parts)
            )
            for template, compute, count in NUMBER_RULES
        )
    )


texts = st.sampled_from(["t", "u"]).map(column)
text_numbers = texts.map(lambda part: combine("length({})", lambda x: float(len(x)), part))
words = texts.map(lambda part: combine("words({})", lambda x: float(len(x.split())), part))
numbers = st.recursive(
    st.one_of(st.sampled_from(["a", "b"]).map(column), written, text_numbers, words),
    number_rules,
    max_leaves=4,
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
}
comparisons = st.tuples(numbers, st.sampled_from(list(COMPARISONS)), numbers).map(
    lambda c: combine(f"({{}} {c[1]} {{}})", COMPARISONS[c[1]], c[0], c[2])
)
chains = st.tuples(numbers, numbers, numbers).map(
    lambda c: both_sides(
        combine("{} <= {}", lambda x, y: x <= y, c[0], c[1]),
        combine("{} < {}", lambda x, y: x < y, c[1], c[2]),
        f"({c[0].text} <= {c[1].text} < {c[2].text})",
    )
)


def both_sides(left: Part, right: Part, text: str) -> Part:
    return Part(text, both(left, right).value)


text_tests = st.one_of(
    texts.map(lambda p: combine('({} == "ab")', lambda x: x == "ab", p)),
    texts.map(lambda p: combine('({} in ["ab", "b"])', lambda x: x in ("ab", "b"), p)),
    texts.map(lambda p: combine('({} not in ["b"])', lambda x: x != "b", p)),
    texts.map(lambda p: combine('("b" in {})', lambda x: "b" in x, p)),
    texts.map(lambda p: combine('starts_with({}, "a")', lambda x: x.startswith("a"), p)),
    texts.map(lambda p: combine('ends_with({}, "b")', lambda x: x.endswith("b"), p)),
    texts.map(
        lambda p: combine(
            'matches({}, "^a+b")', lambda x: re.search("^a+b", x) is not None, p
        )
    ),
    texts.map(lambda p: combine('(lower({}) == "ab")', lambda x: x.lower() == "ab", p)),
)
missing_tests = st.one_of(
    st.one_of(numbers, texts).map(
        lambda p: Part(f"({p.text} is null)", lambda row: p.value(row) is None)
    ),
    numbers.map(
        lambda p: Part(f"({p.text} is not null)", lambda r: p.value(r) is not None)
    ),
    numbers.map(
        lambda p: Part(
            f"(default({p.text}, 7) > 3)",
            lambda row: (7 if p.value(row) is None else p.value(row)) > 3,
        )
    ),
)
flags = st.recursive(
    st.one_of(
        st.sampled_from(["f", "g"]).map(column),
        comparisons,
        chains,
        text_tests,
        missing_tests,
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: either(*p)),
        st.tuples(inner, inner).map(lambda p: both(*p)),
        inner.map(lambda p: combine("(not {})", lambda x: not x, p)),
    ),
    max_leaves=5,
)
rows = st.fixed_dictionaries(
    {
        "a": st.sampled_from([None, 0.0, 1.0, -2.0, 2.5, 4e150]),
        "b": st.sampled_from([None, 0.0, 3.25, -0.5, 100.0]),
        "t": st.sampled_from([None, "", "ab", "b", "AB x", "aab\n\tc", "é"]),
        "u": st.sampled_from([None, "b", "xab"]),
        "f": st.sampled_from([None, True, False]),
        "g": st.sampled_from([True, False]),
    }
)
TYPES = {
    "a": pl.Float64,
    "b": pl.Float64,
    "t": pl.String,
    "u": pl.String,
    "f": pl.Boolean,
    "g": pl.Boolean,
    "m": pl.String,
}


def evaluate(text: str, given_rows: list[Row]) -> list[bool | None]:
    """Compute an expression by the library: all conjuncts, joined as ``and`` joins."""
    schema = {name: TYPES[name] for name in given_rows[0]}
    frame = pl.DataFrame(given_rows, schema=schema)
    parts = make_filter(text).expressions(SCHEMA)
    return frame.with_columns(_result=pl.all_horizontal(parts))["_result"].to_list()


@given(flags, st.lists(rows, min_size=1, max_size=8))
def test_expressions_have_the_values_that_python_gives_them(
    part: Part, given_rows: list[Row]
) -> None:
    expected = [part.value(row) for row in given_rows]
    assert evaluate(part.text, given_rows) == expected, part.text


@given(flags)
def test_the_normal_form_is_the_same_filter(part: Part) -> None:
    filter_ = make_filter(part.text)
    again = make_filter(filter_.canonical())
    assert again.canonical() == filter_.canonical()
    assert again.fingerprint() == filter_.fingerprint()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("m.n > 1", [True, False, None, None, True, None, None, None, None]),
        ("m.s == 'x'", [True, None, None, None, None, None, None, None, None]),
        ("m['odd name'] == 1", [None, True, None, None, None, None, None, None, None]),
        ("m.deep.er < 5", [None, None, None, None, True, None, None, None, None]),
        ("m.flag", [None, None, True, None, None, None, None, None, None]),
        ("m.n is null", [False, False, True, True, False, True, True, True, True]),
        ("default(m.n, 9) > 8", [False, False, True, True, False, True, True, True, True]),
        ("number(m.n) == number(m.s)", [None] * 9),
        ("text(m.n) == '2'", [True, False, None, None, False, None, None, None, None]),
    ],
)
def test_a_field_is_read_as_the_kind_that_it_is_used_as(
    field: str, values: list[bool | None]
) -> None:
    documents = [
        '{"n": 2, "s": "x"}',
        '{"n": "0.5", "odd name": 1}',
        '{"n": null, "flag": true}',
        '{"flag": "perhaps"}',
        '{"n": 1.5, "deep": {"er": 3}}',
        "no JSON",
        "",
        None,
        "[" * 100_000,
    ]
    assert evaluate(field, [{"m": document} for document in documents]) == values


ODD = [
    '"x": NaN',
    '"x": -Infinity',
    '"x": 1e400',
    '"x": "\\ud800"',
    '"\\udfff": 0',
    f'"x": {"1" * 5000}',
    f'"x": {"[" * 5000}{"]" * 5000}',
    '"x\\u0000": 0, "": 1',
    '"n": 7, "x": 0',
    '"x": -0',
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_odd_value_hides_none_beside_it(odd: str, mark: str) -> None:
    document = f'{mark}{{{odd}, "n": 2, "s": "ü", "f": true}}'
    for text in ("m.n == 2", "m.s == 'ü'", "m.f", "m.y is null"):
        assert evaluate(text, [{"m": document}]) == [True]


@pytest.mark.parametrize("name", ["a.b", "it's", "a\\b", "ü", "$", "*", "[0]", " "])
def test_a_field_may_have_any_name(name: str) -> None:
    document = json.dumps({name: {name: 3}})
    assert evaluate(f'm["{name}"]["{name}"] == 3', [{"m": document}]) == [True]


def test_a_half_of_a_surrogate_pair_stays_the_escape_that_it_was() -> None:
    document = '{"s": "a\\ud83d"}'
    assert evaluate(r"m.s == 'a\ud83d' and length(m.s) == 7", [{"m": document}]) == [True]


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
whole = st.one_of(
    st.integers(-(2**176), 2**176),
    st.integers(-(2**64), 2**64),
    st.sampled_from([s * 2**e for e in (53, 63, 64, 127, 170) for s in (1, -1)]),
)


@given(whole, st.integers(-3, 3), st.sampled_from(sorted(COMPARE)), st.booleans())
def test_whole_numbers_are_compared_with_all_their_digits(
    number: int, step: int, sign: str, quoted: bool
) -> None:
    other = number + step
    document = json.dumps({"n": str(number) if quoted else number, "o": other})
    expected = COMPARE[sign](Fraction(number), Fraction(other))
    listed = number in (other, 5)
    parts = {
        f"m.n {sign} {other}": expected,
        f"{number} {sign} m.o": expected,
        f"number(m.n) {sign} number(m.o)": expected,
        f"-m.n {sign} -number(m.o)": COMPARE[sign](-Fraction(number), -Fraction(other)),
        f"number(t) {sign} {other}": expected,
        f"default(number(m.none), m.n) {sign} {other}": expected,
        f"{number} {sign} {other}": expected,
        f"m.n in [{other}, 5]": listed,
        f"m.n not in [5, {other}]": not listed,
    }
    rows = [{"m": document, "t": str(number)}]
    wrong = [text for text, true in parts.items() if not true]
    right = " and ".join(text if true else f"not ({text})" for text, true in parts.items())
    assert evaluate(right, rows) == [True], wrong


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(sorted(COMPARE)))
def test_a_fraction_is_the_float_that_python_reads(number: float, sign: str) -> None:
    document = json.dumps({"n": number})
    other = 31.245270191439438
    expected = COMPARE[sign](number, other)
    assert evaluate(f"m.n {sign} {other!r}", [{"m": document}]) == [expected]
    if abs(number) < 1e300:
        assert evaluate(f"m.n == {number!r}", [{"m": document}]) == [True]


@pytest.mark.parametrize("value", ["NaN", "inf", "1e999", "-inf"])
def test_a_number_that_is_none_is_missing(value: str) -> None:
    assert evaluate("m.n > 0 or m.n <= 0", [{"m": f'{{"n": "{value}"}}'}]) == [None]
    frame = pl.DataFrame({"a": [float(value)]})
    (found,) = make_filter("a > 0 or a <= 0").expressions(SCHEMA)
    assert frame.with_columns(x=found)["x"].to_list() == [None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t >= 5", "t is a text column, and a number is needed here"),
        ("a == 'x'", "'x' is a text, and a number is needed here"),
        ("a", "a is a number column, and a flag is needed here"),
        ("a + 1", r"a \+ 1 is a number, and a flag is needed here"),
        ("f > 1", "f is a flag column"),
        ("not a", "a is a number column"),
        ("min(a, t) > 1", "t is a text column"),
        ("contains(a, 'x')", "a is a number column"),
        ("contains(t, u)", "u: expected a number or a quoted text written out"),
        ("contains(t, 5)", "argument 2 must be a text"),
        ("matches(t, '(')", "is no regular expression"),
        ("matches(t, '(?=x)')", "look-around"),
        ("matches(t, 'x{9999}{9999}')", "size limit"),
        ("a in []", "an empty list"),
        ("a in [1, 'x']", "expected a list of numbers or of texts"),
        ("a in ['x']", "a is a number column, and a text is needed here"),
        ("a in 5", "expected a number or a quoted text written out"),
        ("1 in a", "expected a list such as"),
        ("a == null", "write a is null"),
        ("a is 5", "'is' asks for null only"),
        ("[1] == a", "a list belongs to the right of 'in'"),
        ("m > 1", "m is JSON: name a field of it, as m.field"),
        ("m.x == m.y", r"write number\(m.y\) or text\(m.y\)"),
        ("a.b > 1", "a is a number, no JSON"),
        ("sqrt(a, b) > 1", "expected 1 arguments, found 2"),
        ("min(a) > 1", "expected 2 or more arguments, found 1"),
        ("top_fraction(a, 0)", "a fraction above 0, up to 1"),
        ("top_fraction(a, 1.5)", "a fraction above 0, up to 1"),
        ("top_fraction(a, b)", "b: expected a number"),
        ("top_fraction(t, 0.5)", "t is a text column"),
        ("a > percentile(a, 101)", "a number from 0 to 100"),
        ("a > percentile(a, 50) + percentile(percentile(b, 1), 1)", "inside another"),
    ],
)
def test_what_does_not_fit_is_named_with_its_kind(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_filter(text).check(SCHEMA)


@pytest.mark.parametrize("text", ["aa > 1", "min(a, aa) > 1", "aa.field == 1", "aa in [1]"])
def test_an_unknown_column_is_named_with_those_that_exist(text: str) -> None:
    with pytest.raises(UnknownNameError, match=r"no column 'aa'.*a, b, f, g, m, t, u"):
        make_filter(text).check(SCHEMA)


def test_thousands_of_parts_are_no_harm() -> None:
    text = " or ".join(f"a == {n}" for n in range(1_500))
    assert evaluate(text, [{"a": 7.0}, {"a": -7.0}]) == [True, False]


def test_a_filter_without_ready_made_ones_is_complete() -> None:
    assert Filter("a > 1").columns == {"a"}
    assert set(FILTERS) == {member.name for member in FILTERS.values()}
