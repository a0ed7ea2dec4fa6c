"""What kind every part of an expression is of, and how Polars computes it."""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.errors import InputError, UnknownNameError
from curation.filters.base import Function, Kind, Schema
from curation.filters.fields import field_number, field_text, number_in, rest_in, rest_of
from curation.filters.habits import name_hint
from curation.filters.places import placed
from curation.filters.syntax import (
    called_name,
    check_count,
    field_path,
    is_field,
    is_null,
    is_written,
    kind_of,
    shown,
    written_value,
)

if TYPE_CHECKING:
    import polars as pl

CUTS = ("top_fraction", "bottom_fraction", "percentile")
"""Functions whose value depends on all samples."""


_EXACT = 2**53
"""From here on float64 no longer tells whole numbers from their neighbours."""

_READ_AS: dict[str, Kind] = {"number": "number", "text": "text"}


OTHER_CALLS = {
    "default": "default(x, value): x, or the value where x is missing",
    "number": "number(x): x read as a number; missing where it is none",
    "text": "text(x): x read as a text",
    "top_fraction": "top_fraction(x, 0.3): x is among the highest 0.3 of all samples",
    "bottom_fraction": "bottom_fraction(x, 0.3): x is among the lowest 0.3 of all samples",
    "percentile": "percentile(x, 70): the number that 70 % of all samples' x are below",
}
"""Calls whose kind depends on their arguments, or their value on all samples."""


@dataclass(frozen=True)
class Cut:
    """A number that must be found in all samples before a sample can be judged."""

    name: str
    """One of ``CUTS``."""
    argument: str
    """The numeric expression whose values count, in normal form."""
    share: float
    """The fraction, in (0, 1], or the percentile, in [0, 100]."""

    @property
    def text(self) -> str:
        """The call in normal form, which is its name among bound cuts."""
        return f"{self.name}({self.argument}, {self.share!r})"


def cut_of(node: ast.AST) -> Cut:
    """Read the call of one of ``CUTS``.

    Raises:
        InputError: Its arguments are none that such a call takes.
    """
    with placed(node):
        return _read_cut(node)


def _read_cut(node: ast.AST) -> Cut:
    assert isinstance(node, ast.Call)
    check_count(node, 2, 2)
    if any(called_name(part) in CUTS for part in ast.walk(node.args[0])):
        raise InputError(f"{shown(node)}: no such call can be inside another")
    share, name = written_value(node.args[1]), called_name(node)
    most = 100 if name == "percentile" else 1
    if kind_of(share) != "number" or not 0 <= share <= most or (share == 0 and most == 1):
        raise InputError(
            f"{shown(node)}: expected "
            + ("a number from 0 to 100" if most == 100 else "a fraction above 0, up to 1")
        )
    return Cut(name, shown(node.args[0]), float(share))


@dataclass(frozen=True)
class Term:
    """A part of an expression whose kind is known."""

    kind: Kind | None
    """None for ``null``, which is of every kind."""
    build: "Callable[[], pl.Expr]"
    rest: "Callable[[], pl.Expr] | None" = None
    """What float64 rounds away of a number, Int128; None where that was lost already, as
    in what is computed, or can't be, as in a written number below 2**53."""


@dataclass(frozen=True)
class Reader:
    """Reads parts of one expression."""

    schema: Schema
    """The columns that there are."""
    functions: Mapping[str, Function]
    """The functions that there are, each name called being one of them."""
    bound: Mapping[str, float | None]
    """Values of cuts, by their text."""

    def read(self, node: ast.expr, wanted: Kind | None = None) -> Term:
        """Read a part.

        Args:
            node: The part.
            wanted: The kind that it must have; None if any will do.

        Raises:
            InputError: It does not fit; the message shows where it is.
        """
        with placed(node):
            return self._read(node, wanted)

    def _read(self, node: ast.expr, wanted: Kind | None) -> Term:
        readers: dict[type[ast.expr], Callable[[Any, Kind | None], Term]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Attribute: self._field,
            ast.Subscript: self._field,
            ast.BoolOp: self._and_or,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._arithmetic,
            ast.Compare: self._comparison,
            ast.Call: self._call,
        }
        if type(node) not in readers:
            raise InputError(f"{shown(node)}: a list belongs to the right of 'in'")
        term = readers[type(node)](node, wanted)
        if wanted is not None and term.kind is not None and term.kind != wanted:
            raise InputError(self._other_kind(node, term.kind, wanted))
        return term

    def _other_kind(self, node: ast.expr, found: Kind, wanted: Kind) -> str:
        if isinstance(node, ast.Name):
            return f"{node.id} is a {found} column, and a {wanted} is needed here"
        told = f"{shown(node)} is a {found}, and a {wanted} is needed here"
        return told + (self._quoted_column(node) or "")

    def _quoted_column(self, node: ast.expr) -> str | None:
        """Say that a column was put in quotes, as SQL has it."""
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and value in self.schema:
            return f"; for the column, write {value} without quotes"
        return None

    def _constant(self, node: ast.Constant, wanted: Kind | None) -> Term:
        value: Any = node.value
        if value is None:
            return Term(None, lambda: _missing(wanted))
        if isinstance(value, bool):
            return Term("flag", lambda: _literal(value))
        if isinstance(value, str):
            return Term("text", lambda: _literal(value))
        number = float(value)
        if abs(value) < _EXACT:
            return Term("number", lambda: _literal(number))
        rest = rest_of(int(value))
        return Term("number", lambda: _literal(number), lambda: _whole(rest))

    def _name(self, node: ast.Name, _wanted: Kind | None) -> Term:
        if node.id not in self.schema:
            if hint := name_hint(node.id):
                raise InputError(f"in place of {node.id} write {hint}")
            raise UnknownNameError.among("column", node.id, self.schema)
        kind = self.schema[node.id]
        if kind == "json":
            raise InputError(f"{node.id} is JSON: name a field of it, as {node.id}.field")
        if kind == "number":
            return Term(kind, lambda: _finite(_column(node.id)))
        return Term(kind, lambda: _column(node.id))

    def _field(self, node: ast.expr, wanted: Kind | None) -> Term:
        root, path = field_path(node)
        if root not in self.schema:
            raise UnknownNameError.among("column", root, self.schema)
        if self.schema[root] != "json":
            raise InputError(f"{shown(node)}: {root} is a {self.schema[root]}, no JSON")
        if wanted is None:
            raise InputError(
                f"the kind of {shown(node)} can't be told from its use; write "
                f"number({shown(node)}) or text({shown(node)})"
            )
        if wanted == "number":
            # read at once, not as a text first: that would parse the document twice
            return Term(
                wanted,
                lambda: field_number(_column(root), path),
                lambda: rest_in(field_text(_column(root), path)),
            )
        return _converted(lambda: field_text(_column(root), path), wanted)

    def _and_or(self, node: ast.BoolOp, _wanted: Kind | None) -> Term:
        terms = [self.read(value, "flag") for value in node.values]
        if isinstance(node.op, ast.And):
            return Term("flag", lambda: _all_of([term.build() for term in terms]))
        return Term("flag", lambda: _any_of([term.build() for term in terms]))

    def _unary(self, node: ast.UnaryOp, _wanted: Kind | None) -> Term:
        if isinstance(node.op, ast.Not):
            flag = self.read(node.operand, "flag")
            return Term("flag", lambda: ~flag.build())
        number = self.read(node.operand, "number")
        if isinstance(node.op, ast.UAdd):
            return number
        rest = number.rest
        return Term(
            "number",
            lambda: -number.build(),
            None if rest is None else lambda: _whole(0) - rest(),
        )

    def _arithmetic(self, node: ast.BinOp, _wanted: Kind | None) -> Term:
        if isinstance(node.op, ast.Sub) and is_field(node.left):
            self._check_dash(node.left, node.right)
        left, right = self.read(node.left, "number"), self.read(node.right, "number")
        compute = _ARITHMETIC[type(node.op)]
        return Term("number", lambda: _finite(compute(left.build(), right.build())))

    def _check_dash(self, field: ast.expr, right: ast.expr) -> None:
        """Refuse a field's name that was cut at its dash."""
        if isinstance(right, ast.Name) and self.schema.get(right.id) != "number":
            root, (*path, last) = field_path(field)
            within = "".join(f"[{name!r}]" for name in (*path, f"{last}-{right.id}"))
            raise InputError(f"for a field with a dash in its name write {root}{within}")

    def _comparison(self, node: ast.Compare, _wanted: Kind | None) -> Term:
        operands = [node.left, *node.comparators]
        if all(map(_is_value, operands)):
            hint = next(filter(None, map(self._quoted_column, operands)), "")
            if hint:
                raise InputError(f"{shown(node)} compares no column{hint}")
        terms = [
            self._compared(left, op, right)
            for left, op, right in zip(operands, node.ops, operands[1:], strict=False)
        ]
        return Term("flag", lambda: _all_of([term.build() for term in terms]))

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Term:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._null_test(left, op, right)
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, op, right)
        if is_null(left) or is_null(right):
            raise InputError(
                f"nothing compares with null; write {shown(left)} is null, or is not null"
            )
        ordered = not isinstance(op, ast.Eq | ast.NotEq)
        terms = self._alike(left, right, "number" if ordered else None)
        return Term("flag", lambda: _compared(type(op), *terms))

    def _null_test(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Term:
        if not is_null(right):
            raise InputError(
                f"{shown(left)} is {shown(right)}: 'is' asks for null only, as in "
                f"{shown(left)} is null; compare with =="
            )
        # of a field, whether it is there does not depend on what it holds
        term = self.read(left, "text" if is_field(left) else None)
        if isinstance(op, ast.Is):
            return Term("flag", lambda: term.build().is_null())
        return Term("flag", lambda: term.build().is_not_null())

    def _membership(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Term:
        found = (
            self._in_list(left, right.elts)
            if isinstance(right, ast.List | ast.Tuple)
            else self._in_text(left, right)
        )
        if isinstance(op, ast.NotIn):
            return Term("flag", lambda: ~found.build())
        return found

    def _in_list(self, left: ast.expr, elements: list[ast.expr]) -> Term:
        values = [written_value(element) for element in elements]
        kinds = {kind_of(value) for value in values}
        if len(kinds) != 1 or None in kinds:
            raise InputError(
                f"{shown(left)} in …: expected a list of numbers or of texts, found "
                f"{', '.join(map(shown, elements)) or 'an empty list'}"
            )
        kind = kinds.pop()
        term = self.read(left, kind)
        if kind != "number":
            return Term("flag", lambda: term.build().is_in(values))
        # those that float64 can't tell from their neighbours are compared one by one
        small = [float(value) for value in values if abs(value) < _EXACT]
        large = [
            self.read(e) for e, v in zip(elements, values, strict=True) if v not in small
        ]
        return Term(
            "flag",
            lambda: _any_of(
                [term.build().is_in(small), *(_compared(ast.Eq, term, t) for t in large)]
            ),
        )

    def _in_text(self, left: ast.expr, right: ast.expr) -> Term:
        part = written_value(left)
        if not isinstance(part, str):
            raise InputError(
                f"{shown(left)} in {shown(right)}: expected a list such as [1, 2] to the "
                "right of 'in', or a quoted text to its left: \"stock\" in caption"
            )
        text = self.read(right, "text")
        return Term("flag", lambda: text.build().str.contains(part, literal=True))

    def _alike(
        self, left: ast.expr, right: ast.expr, wanted: Kind | None
    ) -> tuple[Term, Term]:
        """Read two parts of one kind; one may tell the kind of the other."""
        if wanted is None and is_field(left):
            second = self.read(right)
            return self.read(left, second.kind), second
        first = self.read(left, wanted)
        return first, self.read(right, wanted or first.kind)

    def _call(self, node: ast.Call, wanted: Kind | None) -> Term:
        name = called_name(node)
        if name in CUTS:
            return self._cut(node)
        if name == "default":
            return self._default(node, wanted)
        if name in _READ_AS:
            check_count(node, 1, 1)
            return self._read_as(node.args[0], _READ_AS[name])
        function = self.functions[name]
        least = len(function.takes)
        check_count(node, least, None if function.variadic else least)
        terms = [self._argument(node, function, place) for place in range(len(node.args))]
        function.check(*(terms[place] for place in sorted(function.constant)))

        def build() -> "pl.Expr":
            values = [term.build() if isinstance(term, Term) else term for term in terms]
            result = function.build(*values)
            if function.variadic:  # Polars' own of many columns pass over what is missing
                result = _where(_all_of([value.is_not_null() for value in values]), result)
            return _finite(result) if function.gives == "number" else result

        return Term(function.gives, build)

    def _argument(self, node: ast.Call, function: Function, place: int) -> Any:
        kind = function.takes[min(place, len(function.takes) - 1)]
        if place not in function.constant:
            return self.read(node.args[place], kind)
        value = written_value(node.args[place])
        if kind_of(value) != kind:
            raise InputError(f"{shown(node)}: argument {place + 1} must be a {kind}")
        return value

    def _read_as(self, node: ast.expr, kind: Kind) -> Term:
        """Read what ``number(…)`` and ``text(…)`` are about: mostly fields of JSON."""
        term = self.read(node, kind if is_field(node) else None)
        return term if term.kind == kind else _converted(term.build, kind, term.kind)

    def _default(self, node: ast.Call, wanted: Kind | None) -> Term:
        check_count(node, 2, 2)
        first, second = self._alike(node.args[0], node.args[1], wanted)
        kind = second.kind or first.kind

        def rest() -> "pl.Expr":
            return _where(first.build().is_not_null(), _rest(first), _rest(second))

        return Term(
            kind,
            # a value that is written out has one row, and would have it after fill_null()
            lambda: _where(first.build().is_not_null(), first.build(), second.build()),
            rest if first.rest or second.rest else None,
        )

    def _cut(self, node: ast.Call) -> Term:
        cut = cut_of(node)
        argument = self.read(node.args[0], "number")
        bound = self.bound
        if cut.name == "percentile":
            return Term("number", lambda: _literal(bound[cut.text]))
        if cut.name == "top_fraction":
            return Term("flag", lambda: argument.build() >= _literal(bound[cut.text]))
        return Term("flag", lambda: argument.build() <= _literal(bound[cut.text]))


_ARITHMETIC: "dict[type[ast.operator], Callable[[pl.Expr, pl.Expr], pl.Expr]]" = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a.pow(b),
}


_COMPARISONS: "dict[type[ast.cmpop], Callable[[pl.Expr, pl.Expr], pl.Expr]]" = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}


def _compared(op: type[ast.cmpop], left: Term, right: Term) -> "pl.Expr":
    """Compare two terms: as float64, and where that finds none larger, what it lost.

    A number below 2**53 on one side needs no second look: nothing rounds to it.
    """
    a, b = left.build(), right.build()
    rounded = _COMPARISONS[op](a, b)
    if left.rest is None or right.rest is None:
        return rounded
    rest = _COMPARISONS[op](_rest(left), _rest(right))
    return _where(a != b, rounded, _where(a == b, rest))


def _rest(term: Term) -> "pl.Expr":
    return term.rest() if term.rest else _whole(0)


def _whole(value: int) -> "pl.Expr":
    import polars as pl

    return pl.lit(value, pl.Int128)


def _is_value(node: ast.expr) -> bool:
    return is_written(node) or isinstance(node, ast.List | ast.Tuple)


def _column(name: str) -> "pl.Expr":
    import polars as pl

    return pl.col(name)


def _literal(value: object) -> "pl.Expr":
    import polars as pl

    return pl.lit(value)


def _missing(kind: Kind | None) -> "pl.Expr":
    import polars as pl

    kinds = {"flag": pl.Boolean, "number": pl.Float64, "text": pl.String}
    return pl.lit(None, kinds.get(kind or ""))


def _all_of(flags: "list[pl.Expr]") -> "pl.Expr":
    import polars as pl

    # flat, not one inside the other: thousands of them would exhaust Polars' stack
    return pl.all_horizontal(flags) if len(flags) > 1 else flags[0]


def _any_of(flags: "list[pl.Expr]") -> "pl.Expr":
    import polars as pl

    return pl.any_horizontal(flags)


def _where(
    condition: "pl.Expr", value: "pl.Expr", otherwise: "pl.Expr | None" = None
) -> "pl.Expr":
    import polars as pl

    return pl.when(condition).then(value).otherwise(otherwise)


def _finite(value: "pl.Expr") -> "pl.Expr":
    """Make a number float64, and missing where it is none."""
    import polars as pl

    number = value.cast(pl.Float64)
    return pl.when(number.is_finite()).then(number)


def _converted(
    build: "Callable[[], pl.Expr]", kind: Kind, of: Kind | None = "text"
) -> Term:
    """Read a text, a number or a flag as another kind."""
    import polars as pl

    if kind == "number" and of == "text":
        return Term(kind, lambda: number_in(build()), lambda: rest_in(build()))
    if kind == "number":
        return Term(kind, lambda: _finite(build().cast(pl.Float64, strict=False)))
    if kind == "flag":
        return Term(
            kind,
            lambda: pl.when(build().is_in(["true", "false"])).then(build() == "true"),
        )
    return Term(kind, lambda: build().cast(pl.String))
