"""The one readable expression that decides which samples are kept.

::

    min(width, height) >= 200 and sharpness_probe >= 0.5 and not is_duplicate

It is parsed with Python's own parser and nothing of it is ever run as Python: only the
parts below are accepted, everything else is an error that quotes it. It is checked against
the columns that exist before anything runs, and computed by Polars.

- Columns by name; fields of the samples' own JSON as ``metadata.similarity`` or
  ``metadata["some key"]``. A field is read as the kind that it is used as: a number
  (``"0.5"`` counts as one), a text or a flag; of another kind, it is missing. A value that
  is none, such as ``NaN`` or ``1e400``, is missing alone, and hides nothing beside it.
- Numbers are float64, but whole ones that are compared as they stand, in JSON or in the
  filter, have all their digits: ``metadata.id == 9007199254740993``.
- ``< <= > >= == !=``, chained too (``200 <= width < 4000``); ``in`` and ``not in`` with a
  list (``format in ["jpeg", "png"]``) or a text (``"stock" in caption``).
- ``and``, ``or``, ``not``; ``+ - * / % **``; numbers, quoted texts, ``true``, ``false``. In
  a quoted text a backslash is a backslash.
- ``x is null``, ``x is not null``; ``default(x, value)`` puts a value where x is missing.
- The functions of ``filters/functions.py``.
- ``top_fraction(x, 0.3)``: x is among the highest 0.3 of all samples that have an x, ties
  at the cut included; ``bottom_fraction`` likewise. ``percentile(x, 70)``: the number that
  70 % of them are below. All three are about the whole set, so that their cuts must be
  found first (``selection.find_cuts``) and bound (:meth:`Filter.bind`).
- Ready-made filters by name: ``datacomp_basic()``, ``laion_aesthetics(5)`` …

**Reasons.** The top-level ``and`` splits the expression into conjuncts. A sample is kept if
all are true; of one that isn't, every conjunct that isn't true is a reason, word for word.

**Missing values.** A comparison or function with a missing value is itself missing, and a
sample is kept only for what is true: its reason then ends with ``(value missing)``. ``or``
is true if one side is, ``and`` false if one side is, whatever is missing on the other.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

from curation.errors import InputError, UnknownNameError
from curation.filters.base import Function, ReadyMade, Schema
from curation.filters.fields import VERSION as FIELDS_VERSION
from curation.filters.functions import FUNCTIONS
from curation.filters.habits import call_hint
from curation.filters.places import placed
from curation.filters.reading import CUTS, OTHER_CALLS, Cut, Reader, cut_of
from curation.filters.syntax import (
    called_name,
    column_names,
    is_field,
    parse_expression,
    shown,
    written_value,
)
from curation.fingerprint import Json, fingerprint

if TYPE_CHECKING:
    import polars as pl

VALUE_MISSING = " (value missing)"


@dataclass(frozen=True)
class Conjunct:
    """One part between top-level ``and``s: a filter of its own."""

    text: str
    """The part in normal form: the reason of what it drops."""
    node: ast.expr = field(compare=False, repr=False)


@dataclass(frozen=True)
class Filter:
    """An expression that was parsed; make one with :func:`curation.filters.make_filter`.

    Raises:
        InputError: The text is no expression, or uses what expressions don't have.
        UnknownNameError: It calls a function that doesn't exist.
    """

    text: str
    """As it was written."""
    ready_made: Mapping[str, type[ReadyMade]] = field(default_factory=dict, repr=False)
    """Ready-made filters that it may call, by name."""
    bound: Mapping[str, float | None] = field(default_factory=dict)
    """Values of its cuts, by text; None where no sample has a value."""

    def __post_init__(self) -> None:
        _ = self.conjuncts, self.cuts  # a mistake shows here, not at first use

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.text, self.ready_made, self.bound)

    @cached_property
    def conjuncts(self) -> tuple[Conjunct, ...]:
        """What is between the top-level ``and``s, ready-made filters written out."""
        return tuple(self._conjuncts_of(parse_expression(self.text), label=""))

    @cached_property
    def functions(self) -> Mapping[str, Function]:
        """All functions that it may call, by name."""
        brought = [member.functions for member in self.ready_made.values()]
        return {name: f for group in (FUNCTIONS, *brought) for name, f in group.items()}

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that it names, whether they exist or not."""
        return frozenset(
            name for part in self.conjuncts for name in column_names(part.node)
        )

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts that it needs, each once."""
        calls = [
            cut_of(node)
            for part in self.conjuncts
            for node in ast.walk(part.node)
            if called_name(node) in CUTS
        ]
        return tuple(dict.fromkeys(calls))

    @property
    def is_bound(self) -> bool:
        """Whether all its cuts have values, so that samples can be judged."""
        return all(cut.text in self.bound for cut in self.cuts)

    def bind(self, values: Mapping[str, float | None]) -> "Filter":
        """Give the same filter with the values of its cuts."""
        return replace(self, bound={cut.text: values[cut.text] for cut in self.cuts})

    def canonical(self) -> str:
        """Write it in normal form: how it is spaced and bracketed makes no difference."""
        return " and ".join(
            f"({part.text})" if isinstance(part.node, ast.BoolOp) else part.text
            for part in self.conjuncts
        )

    def fingerprint(self) -> str:
        """Hash what decides about samples: normal form, functions' versions, cuts."""
        calls = [
            (self.functions[name], name, node)
            for part in self.conjuncts
            for node in ast.walk(part.node)
            if isinstance(node, ast.Call) and (name := called_name(node)) in self.functions
        ]
        versions: dict[str, Json] = {n: function.version() for function, n, _ in calls}
        if any(is_field(node) for part in self.conjuncts for node in ast.walk(part.node)):
            versions["metadata.field"] = FIELDS_VERSION
        contents = [
            function.content(
                *(written_value(node.args[i]) for i in sorted(function.constant))
            )
            for function, _, node in calls
            if function.content
        ]
        return fingerprint(self.canonical(), versions, dict(self.bound), *contents)

    def check(self, schema: Schema) -> None:
        """Check names and kinds before anything runs.

        Raises:
            UnknownNameError: A column doesn't exist; the message has the nearest names
                and lists those that do.
            InputError: A part doesn't fit its place; the message names it and its kind.
        """
        for part in self.conjuncts:
            self._reader(schema).read(part.node, "flag")

    def expressions(self, schema: Schema) -> list["pl.Expr"]:
        """Give one Polars expression per conjunct: true, false, or null for missing.

        Args:
            schema: The columns that the frame has, with their kinds.

        Raises:
            InputError: As :meth:`check`, or a cut is not bound.
        """
        if not self.is_bound:
            raise InputError(
                f"{self.cuts[0].text} is about all samples: find the filter's cuts, and "
                "bind them, before samples are judged"
            )
        reader = self._reader(schema)
        return [reader.read(part.node, "flag").build() for part in self.conjuncts]

    def number(self, part: str, schema: Schema) -> "pl.Expr":
        """Give the Polars expression of a numeric part, float64.

        Args:
            part: A part of the filter in normal form.
            schema: As :meth:`expressions`.
        """
        return self._reader(schema).read(parse_expression(part), "number").build()

    def cut_arguments(self, schema: Schema) -> dict[str, "pl.Expr"]:
        """Give the expression of each cut's values, float64, by the cut's text."""
        return {cut.text: self.number(cut.argument, schema) for cut in self.cuts}

    def _conjuncts_of(self, node: ast.expr, label: str) -> Iterator[Conjunct]:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            for value in node.values:
                yield from self._conjuncts_of(value, label)
        elif called_name(node) in self.ready_made:
            rule = parse_expression(_rule_of(node, self.ready_made))
            yield from self._conjuncts_of(rule, f"{label}{shown(node)}: ")
        else:
            text = label + shown(node)  # before rules take the place of their calls
            written_out = _WriteOut(self.ready_made).visit(node)
            self._check_calls(written_out)
            yield Conjunct(text, written_out)

    def _check_calls(self, node: ast.expr) -> None:
        known = {*self.functions, *OTHER_CALLS}
        for part in ast.walk(node):
            name = called_name(part)
            if name and name not in known:
                names = known | set(self.ready_made)
                with placed(part):
                    raise _unknown_function(name, names)

    def _reader(self, schema: Schema) -> Reader:
        return Reader(schema, self.functions, self.bound)


class _WriteOut(ast.NodeTransformer):
    """Puts the rules of ready-made filters in the place of their calls."""

    def __init__(self, ready_made: Mapping[str, type[ReadyMade]]) -> None:
        self.ready_made = ready_made

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if called_name(node) in self.ready_made:
            rule: ast.expr = self.visit(parse_expression(_rule_of(node, self.ready_made)))
            return rule
        self.generic_visit(node)
        return node


def _unknown_function(name: str, known: set[str]) -> InputError:
    if hint := call_hint(name):
        return InputError(f"there is no function {name}; write {hint}")
    return UnknownNameError.among("function", name, known)


def _rule_of(node: ast.expr, ready_made: Mapping[str, type[ReadyMade]]) -> str:
    with placed(node):
        return _written_out(node, ready_made)


def _written_out(node: ast.expr, ready_made: Mapping[str, type[ReadyMade]]) -> str:
    assert isinstance(node, ast.Call)
    member = ready_made[called_name(node)]
    arguments = [written_value(argument) for argument in node.args]
    try:
        return member(*arguments).rule
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        names = ", ".join(f.name for f in fields(member))  # type: ignore[arg-type]
        raise InputError(f"{shown(node)}: {member.name} takes ({names})") from error
