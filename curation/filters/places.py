"""Where in a filter's text a mistake is: its line and column, with a caret below it."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curation.errors import InputError

_WIDTH = 76  # characters of a line that are shown; a filter may be one long line
_WORDS = "words_before"


def at_place(error: InputError, text: str, offset: int) -> InputError:
    """Give the error with the line that it is about, and a caret at a character of it."""
    before = text[:offset]
    line, column = before.count("\n") + 1, offset - (before.rfind("\n") + 1)
    first = max(0, column - _WIDTH * 2 // 3)
    shown = text.split("\n")[line - 1][first : first + _WIDTH]
    shown = "".join(c if c.isprintable() else " " for c in shown)
    placed = type(error)(
        f"{error} (line {line}, column {column + 1})\n"
        f"    {shown}\n    {' ' * (column - first)}^"
    )
    within_word = bool(before) and not before[-1].isspace()
    placed.__dict__[_WORDS] = len(before.split()) - within_word
    return placed


def words_before(error: InputError) -> int | None:
    """Count the words of the filter before the mistake; None if its place is unknown."""
    found: int | None = error.__dict__.get(_WORDS)
    return found


def tag(node: ast.expr, text: str) -> ast.expr:
    """Let all parts know the text that they were read from, brackets taken off."""
    for part in ast.walk(node):
        part.__dict__["text"] = text
    return node


@contextmanager
def placed(node: ast.AST) -> Iterator[None]:
    """Show where the part is that an error is about; the innermost one counts."""
    try:
        yield
    except InputError as error:
        written: Any = node.__dict__
        if words_before(error) is not None or not {"text", "lineno"} <= written.keys():
            raise
        offset = _offset(written["text"], written["lineno"], written["col_offset"])
        raise at_place(error, written["text"], offset) from error


def _offset(text: str, line: int, column: int) -> int:
    """Find a character by its line, after that of the bracket, and column in UTF-8."""
    lines = text.split("\n")[: line - 1]
    within = lines.pop().encode("utf-8", "surrogatepass")[:column] if lines else b""
    return sum(len(one) + 1 for one in lines) + len(within.decode("utf-8", "replace"))
