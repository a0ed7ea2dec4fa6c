"""The functions that every filter expression may call.

Numbers are float64. A result that is no finite number, such as ``log(0)`` or ``1 / 0``, is
a missing value, and so is the result for a missing argument, except where said otherwise.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from curation.errors import InputError
from curation.filters.base import Function

if TYPE_CHECKING:
    import polars as pl


def _smallest(*values: "pl.Expr") -> "pl.Expr":
    import polars as pl

    return pl.min_horizontal(*values)


def _largest(*values: "pl.Expr") -> "pl.Expr":
    import polars as pl

    return pl.max_horizontal(*values)


def _words(text: "pl.Expr") -> "pl.Expr":
    return text.str.count_matches(r"\S+")


def check_regex(pattern: str) -> None:
    """Refuse a regular expression that can't be used.

    The engine is Rust's ``regex``: matching takes time linear in the text whatever the
    pattern, so that no caption can stall it; it has no look-around and no back references.

    Raises:
        InputError: The pattern does not compile.
    """
    import polars as pl

    try:
        pl.select(pl.lit("").str.contains(pattern))
    except pl.exceptions.ComputeError as error:
        reason = str(error).partition("\n\n")[0]
        raise InputError(f"{pattern!r} is no regular expression: {reason}") from error


def _number(usage: str, build: "Callable[[pl.Expr], pl.Expr]") -> Function:
    return Function(usage, ("number",), "number", build)


FUNCTIONS: dict[str, Function] = {
    "min": Function(
        "min(a, b, …): the smallest number",
        ("number", "number"),
        "number",
        _smallest,
        variadic=True,
    ),
    "max": Function(
        "max(a, b, …): the largest number",
        ("number", "number"),
        "number",
        _largest,
        variadic=True,
    ),
    "abs": _number("abs(a): the number without its sign", lambda a: a.abs()),
    "sqrt": _number("sqrt(a): the square root", lambda a: a.sqrt()),
    "exp": _number("exp(a): e to the power of a", lambda a: a.exp()),
    "log": _number("log(a): the natural logarithm", lambda a: a.log()),
    "log2": _number("log2(a): the logarithm to base 2", lambda a: a.log(2)),
    "log10": _number("log10(a): the logarithm to base 10", lambda a: a.log10()),
    "floor": _number("floor(a): the whole number at or below", lambda a: a.floor()),
    "ceil": _number("ceil(a): the whole number at or above", lambda a: a.ceil()),
    "length": Function(
        "length(text): characters (Unicode code points)",
        ("text",),
        "number",
        lambda text: text.str.len_chars(),
    ),
    "words": Function(
        "words(text): words, the parts between white space", ("text",), "number", _words
    ),
    "lower": Function(
        "lower(text): in lower case",
        ("text",),
        "text",
        lambda text: text.str.to_lowercase(),
    ),
    "contains": Function(
        'contains(text, "part"): the text has that part, letter for letter',
        ("text", "text"),
        "flag",
        lambda text, part: text.str.contains(part, literal=True),
        constant=frozenset({1}),
    ),
    "starts_with": Function(
        'starts_with(text, "part"): the text begins so',
        ("text", "text"),
        "flag",
        lambda text, part: text.str.starts_with(part),
        constant=frozenset({1}),
    ),
    "ends_with": Function(
        'ends_with(text, "part"): the text ends so',
        ("text", "text"),
        "flag",
        lambda text, part: text.str.ends_with(part),
        constant=frozenset({1}),
    ),
    "matches": Function(
        'matches(text, "pattern"): the regular expression is found somewhere in the text',
        ("text", "text"),
        "flag",
        lambda text, pattern: text.str.contains(pattern),
        constant=frozenset({1}),
        check=check_regex,
    ),
}
