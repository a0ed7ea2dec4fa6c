"""What an expression may be made of, and how a part of one is written in normal form.

Python's own parser reads the text; nothing of it is ever run. Only the node types below
are accepted, and sizes are bounded, so that a hostile recipe can do nothing but fail.
"""

import ast
import warnings
from collections.abc import Iterator
from typing import Any

from curation.errors import InputError
from curation.filters.base import Kind
from curation.filters.habits import Habit, find_habit
from curation.filters.places import at_place, placed, tag

MAX_CHARACTERS = 20_000
MAX_DEPTH = 60  # of nested parts; deeper ones could exhaust the stack of Python or Polars
MAX_NUMBER = 1e300  # float64 has room to compute with it

_WORDS = {"true": True, "false": False, "null": None, "None": None}


_GRAMMAR = (
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow),
    *(ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
    *(ast.Is, ast.IsNot, ast.In, ast.NotIn, ast.List, ast.Tuple),
    *(ast.Call, ast.Name, ast.Load, ast.Attribute, ast.Subscript, ast.Constant),
)


def parse_expression(text: str) -> ast.expr:
    """Parse an expression, and accept only what expressions have.

    Raises:
        InputError: It is none; the message shows where, and what to write if that is
            known (``filters/habits.py``).
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"the filter has {len(text):,} characters; {MAX_CHARACTERS:,} are the most"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as Python's parser does
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" is no mistake here
            # in brackets, lines may end anywhere, and comments end lines
            source = f"(\n{text}\n)"
            node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _not_an_expression(text, error) from error
    if isinstance(node, ast.Tuple):
        raise _no_one_expression(node, text)
    _check_grammar(tag(node, text), source)
    return tag(_Plain(source).visit(node), text)


def _not_an_expression(text: str, error: Exception) -> InputError:
    shown = " ".join(text.split())[:200]
    if not isinstance(error, SyntaxError):
        return InputError(f"the filter can't be read ({type(error).__name__}): {shown!r}")
    if habit := find_habit(text):
        return _hinted(habit, text)
    lines = text.split("\n")
    place = min((error.lineno or 2) - 2, len(lines) - 1)  # line 1 is the bracket
    if place < 0:  # a bracket that ends ours
        return InputError(f"the filter is no expression: {error.msg}; found {shown!r}")
    near = lines[place].strip()
    mistake = InputError(f"the filter is no expression: {error.msg}; found {near[:200]!r}")
    column = min(max((error.offset or 1) - 1, 0), len(lines[place]))
    return at_place(mistake, text, sum(len(line) + 1 for line in lines[:place]) + column)


def _no_one_expression(node: ast.Tuple, text: str) -> InputError:
    if not node.elts:
        return InputError("the filter is empty; write true to keep every sample")
    if habit := find_habit(text):
        return _hinted(habit, text)
    return InputError(
        "the filter is several expressions with commas between; write and between them"
    )


def _hinted(habit: Habit, text: str) -> InputError:
    found = text[habit.start : habit.stop]
    mistake = InputError(
        f"the filter is no expression: in place of {found!r} write {habit.hint}"
    )
    return at_place(mistake, text, habit.start)


def _check_grammar(node: ast.expr, source: str) -> None:
    parts: list[tuple[ast.AST, int]] = [(node, 1)]
    while parts:
        part, depth = parts.pop()
        if depth > MAX_DEPTH:
            raise InputError(f"the filter is nested deeper than {MAX_DEPTH} parts")
        if not isinstance(part, _GRAMMAR):
            raise _not_of_the_language(part, source)
        if isinstance(part, ast.Call) and not _is_name(part.func):
            raise _not_of_the_language(part, source)
        parts += [(child, depth + 1) for child in ast.iter_child_nodes(part)]


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id not in _WORDS


def _not_of_the_language(part: ast.AST, source: str) -> InputError:
    text = source[2:-2]
    if habit := find_habit(text):
        return _hinted(habit, text)
    found = ast.get_source_segment(source, part) or type(part).__name__
    what = (
        f"only functions can be called; found {found[:200]!r}"
        if isinstance(part, ast.Call)
        else f"a filter can't have {found[:200]!r}; see the README's list"
    )
    try:
        with placed(part):
            raise InputError(what)
    except InputError as error:
        return error


class _Plain(ast.NodeTransformer):
    """Reads words and texts the way this language means them, not Python."""

    def __init__(self, source: str) -> None:
        self.source = source

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in _WORDS:
            return ast.copy_location(ast.Constant(_WORDS[node.id]), node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if isinstance(value, str):
            written = ast.get_source_segment(self.source, node) or ""
            if not written.startswith(("r", "'", '"')):
                raise InputError(f"a quoted text has no prefix; found {written[:40]!r}")
            quoted = written if written.startswith("r") else f"r{written}"
            try:
                value = ast.literal_eval(quoted)
            except SyntaxError:  # such as of two texts, one below the other
                with placed(node):
                    raise InputError(
                        f"{written[:40]!r} is no quoted text: expected one, between quotes"
                    ) from None
            return ast.copy_location(ast.Constant(value), node)
        if value is None or isinstance(value, bool):
            return node
        if not isinstance(value, int | float) or abs(value) > MAX_NUMBER:
            # as it is written: Python writes no number of more than 4,300 digits
            written = ast.get_source_segment(self.source, node) or ""
            with placed(node):
                raise InputError(
                    f"{written[:40]!r} is no value of a filter: expected a number below "
                    "1e300, a quoted text, true, false or null"
                )
        return node


def shown(node: ast.AST) -> str:
    """Write a part in normal form, which parses to the same part."""
    return ast.unparse(_Named().visit(ast.parse(ast.unparse(node), mode="eval")))


class _Named(ast.NodeTransformer):
    """Makes ast write constants as this language does: they travel as names."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if isinstance(value, str):
            quotes = ("'", '"', "'''", '"""')
            quote = next(q for q in quotes if q not in value and value[-1:] != q[0])
            return ast.Name(f"{quote}{value}{quote}")
        words = {True: "true", False: "false", None: "null"}
        if value is None or isinstance(value, bool):
            return ast.Name(words[value])
        return node


def called_name(node: ast.AST) -> str:
    """Name the function that a part calls; empty if it calls none."""
    return node.func.id if isinstance(node, ast.Call) else ""  # type: ignore[attr-defined]


def column_names(node: ast.expr) -> Iterator[str]:
    """Name the columns that a part reads."""
    functions = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and id(part) not in functions:
            yield part.id


def check_count(node: ast.Call, least: int, most: int | None) -> None:
    """Refuse a call with too few or too many arguments; None is no bound."""
    found = len(node.args)
    if found < least or (most is not None and found > most):
        wanted = f"{least} or more" if most is None else str(least)
        raise InputError(f"{shown(node)}: expected {wanted} arguments, found {found}")


_KIND_OF: dict[type, Kind] = {bool: "flag", str: "text", int: "number", float: "number"}


def kind_of(value: object) -> Kind | None:
    """Give the kind of a written value; None for null."""
    return _KIND_OF.get(type(value))


def written_value(node: ast.expr) -> Any:
    """Give the value of a part that is written out."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = written_value(node.operand)
        if kind_of(value) == "number":
            return -value
    if isinstance(node, ast.Constant):
        return node.value
    raise InputError(f"{shown(node)}: expected a number or a quoted text written out here")


def is_written(node: ast.expr) -> bool:
    """Tell whether a part is a value written out, not computed."""
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant)


def is_null(node: ast.expr) -> bool:
    """Tell whether a part is ``null``."""
    return isinstance(node, ast.Constant) and node.value is None


def is_field(node: ast.AST) -> bool:
    """Tell whether a part is a field of JSON, whose kind its use decides."""
    return isinstance(node, ast.Attribute | ast.Subscript)


def field_path(node: ast.expr) -> tuple[str, list[str]]:
    """Split ``metadata.a["b"]`` into ``metadata`` and ``[a, b]``."""
    path: list[str] = []
    while True:
        if isinstance(node, ast.Name):
            return node.id, path[::-1]
        if isinstance(node, ast.Attribute):
            path.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Subscript):
            path.append(_field_name(node))
            node = node.value
        else:
            raise InputError(f"{shown(node)}: only a column of JSON has fields")


def _field_name(node: ast.Subscript) -> str:
    name = written_value(node.slice)
    if not isinstance(name, str):
        raise InputError(f"{shown(node)}: expected the name of a field in quotes")
    return name
