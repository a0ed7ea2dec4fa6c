"""Functions say how they are written, and are what their usage says."""

import polars as pl
import pytest

from curation.errors import InputError
from curation.filters import make_filter
from curation.filters.functions import FUNCTIONS, check_regex
from curation.filters.reading import CUTS, OTHER_CALLS


def value(call: str, **row: object) -> object:
    """Compute a number by comparing it with itself, through the public door."""
    kinds = {str: "text", int: "number", float: "number", bool: "flag"}
    schema = {name: kinds[type(found)] for name, found in row.items()}
    frame = pl.DataFrame({name: [found] for name, found in row.items()})
    expression = make_filter("true").number(call, schema)
    return frame.with_columns(_value=expression)["_value"][0]


@pytest.mark.parametrize(("name", "function"), FUNCTIONS.items())
def test_its_usage_begins_with_its_name(name: str, function: object) -> None:
    assert FUNCTIONS[name].usage.startswith(f"{name}(")
    assert "): " in FUNCTIONS[name].usage


def test_calls_with_rules_of_their_own_are_described_too() -> None:
    assert set(CUTS) < set(OTHER_CALLS)
    assert not set(OTHER_CALLS) & set(FUNCTIONS)
    assert all(usage.startswith(f"{name}(") for name, usage in OTHER_CALLS.items())


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("exp(x)", 7.38905609893065),
        ("log(exp(x))", 2.0),
        ("log2(x)", 1.0),
        ("log10(x * 50)", 2.0),
        ("log(x - 2)", None),
        ("log(-x)", None),
        ("sqrt(-x)", None),
        ("x / 0", None),
        ("exp(1000)", None),
        ("ceil(x + 0.1)", 3.0),
        ("floor(-x - 0.1)", -3.0),
        ("7 % x", 1.0),
        ("x ** 3", 8.0),
        ("10 ** 10 ** (x + 1)", None),
        ("length(t)", 7.0),
        ("words(t)", 3.0),
        ("number(t)", None),
    ],
)
def test_numbers(call: str, expected: float | None) -> None:
    found = value(call, x=2, t="né  ü\n!")
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("pattern", ["(a+)+$", r"\bdog\b", "[é-ü]", ""])
def test_regular_expressions_are_accepted(pattern: str) -> None:
    check_regex(pattern)


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?<=x)y", "a{1000}{1000}{1000}"])
def test_other_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="is no regular expression"):
        check_regex(pattern)


def test_no_caption_stalls_a_pattern() -> None:
    """A backtracking engine would take 2^50000 steps for this one."""
    frame = pl.DataFrame({"t": ["a" * 50_000 + "!"]})
    (found,) = make_filter('matches(t, "(a+)+$")').expressions({"t": "text"})
    assert frame.select(found).item() is False
