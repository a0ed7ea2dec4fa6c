"""What people write who come from SQL, C, pandas or a word processor, and what to write.

Nothing here is ever accepted: these are hints of error messages, looked for only where a
text is no expression.
"""

import keyword
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|#[^\n]*")
_OPERAND = r"(?<=[\w)\]\"'])\s*"

Hint = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Habit:
    """Something that no expression has, and what to write instead."""

    start: int
    """Where it begins in the text."""
    stop: int
    """Where it ends."""
    hint: str


_OPERATORS = {
    "===": "==",
    "!==": "!=",
    "=>": ">=",
    "=<": "<=",
    "<>": "!=",
    "&&": "and",
    "||": "or",
    "&": "and",
    "|": "or",
    "^": "** for a power",
    "//": "floor(a / b)",
    "=": "==",
    "!": "not",
    "~": "not",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "∧": "and",
    "∨": "or",
    "¬": "not",
    "×": "*",
    "÷": "/",
    "−": "-",
    "–": "-",
}
_OPERATOR = re.compile(
    r"===|!==|=>|=<|<>|&&|\|\||[&|^~]|//|(?<![<>=!*/+\-%:~])=(?![=>~])|!(?![=~])"
    "|[≥≤≠∧∨¬×÷−–]"
)
_IN_WORDS = "AND OR NOT IN IS TRUE FALSE NULL"
_WRITE = {
    "between": "low <= x <= high",
    "like": 'contains(x, "part"), starts_with, ends_with or matches',
    "contains": 'contains(x, "part")',
    "startswith": 'starts_with(x, "part")',
    "endswith": 'ends_with(x, "part")',
    "matches": 'matches(x, "pattern")',
}
_SAME = {"ilike": "like", "rlike": "matches", "regexp": "matches", "similar": "matches"}
_INFIX = "|".join((*_WRITE, *_SAME))
_CALLS = {
    **_WRITE,
    **dict.fromkeys(("isnull", "isna", "is_null", "isnan"), "x is null"),
    **dict.fromkeys(("notnull", "notna", "is_not_null"), "x is not null"),
    **dict.fromkeys(("coalesce", "ifnull", "nvl", "fillna", "fill_null"), "default(x, 0)"),
    **dict.fromkeys(("float", "int", "cast", "to_number"), "number(x)"),
    **dict.fromkeys(("str", "string"), "text(x)"),
    **dict.fromkeys(("len", "strlen", "char_length"), "length(x)"),
    **dict.fromkeys(("isin", "is_in"), 'x in ["a", "b"]'),
    **dict.fromkeys(("lowercase", "tolower", "to_lowercase"), "lower(x)"),
    **dict.fromkeys(("pow", "power"), "a ** b"),
    "between": "low <= x <= high",
}

_HABITS: list[tuple[str, Hint]] = [
    ("[“”„«»‘’‚`´]", 'straight quotes around texts, "like this", none around columns'),
    (
        rf"\b(\w+(?:\.\w+)*)\.({'|'.join(keyword.kwlist)})\b(?!\s*\()",
        lambda found: f'{found[1]}["{found[2]}"]',
    ),
    (
        r"\b([a-z_]\w*(?:\.\w+)*)\.(\d\w*)",
        lambda found: f'{found[1]}["{found[2]}"] for a field',
    ),
    (r"\b(\d+)(,\d{3})+\b", lambda found: found[0].replace(",", "")),
    (
        r"\b(\d+(?:\.\d+)?)(?!(?:e|x)\d)(%|[a-df-zA-DF-Z]\w*)",
        lambda found: f"{found[1]}: numbers have no unit",
    ),
    (r"[=~]~|~=", 'matches(x, "pattern")'),
    (
        rf"{_OPERAND}(?:\bnot\s+)?\b({_INFIX})\b(?=\s*[\w('\"])(?!\s*\()",
        lambda found: _infix(found[1].lower()),
    ),
    (r"\.(\w+)\s*\(", lambda found: _CALLS.get(found[1].lower(), f"{found[1]}(x)")),
    (r"\bif\b|\?", "parts with and, or and not: there is no if"),
    (r";", "and between parts: the filter is one expression"),
]
_COMPILED = [(re.compile(pattern, re.IGNORECASE), hint) for pattern, hint in _HABITS]
_UPPER = re.compile(rf"\b({'|'.join(_IN_WORDS.split())})\b", re.IGNORECASE)
_LOWER = frozenset(
    ("and", "or", "not", "in", "is", "true", "false", "null", "True", "False")
)


def find_habit(text: str) -> Habit | None:
    """Find the first habit in a text that is no expression; None if there is none."""
    # quoted texts and comments may hold anything
    plain = _QUOTED.sub(lambda found: found[0][0] + "_" * (len(found[0]) - 1), text)
    plain = re.sub(r"#_*", lambda found: " " * len(found[0]), plain)
    return min(_habits(plain), key=lambda habit: habit.start, default=None)


def _habits(text: str) -> Iterator[Habit]:
    for pattern, hint in _COMPILED:
        for found in pattern.finditer(text):
            start = found.start() + len(found[0]) - len(found[0].lstrip())
            yield Habit(start, found.end(), hint if isinstance(hint, str) else hint(found))
    for found in _OPERATOR.finditer(text):
        yield Habit(*found.span(), _OPERATORS[found[0]])
    for found in _UPPER.finditer(text):
        if found[0] not in _LOWER:
            yield Habit(*found.span(), found[0].lower())


def _infix(word: str) -> str:
    return _WRITE[_SAME.get(word, word)]


def name_hint(name: str) -> str:
    """Say what to write in place of a name that there is none of; empty if unknown."""
    if name.lower() in ("true", "false", "null"):
        return name.lower()
    if name.lower() in ("nan", "nil", "none", "undefined", "na"):
        return "x is null for what is missing"
    return ""


def call_hint(name: str) -> str:
    """Say what to write in place of a function that there is none of; empty if unknown."""
    return _CALLS.get(name.lower(), "")
