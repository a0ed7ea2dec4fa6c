"""One type for each column of a dataset, whatever its shards' tables and JSON hold.

The rule looks at all values of the whole set, and loses none of them:

- always null: text;
- all booleans: Boolean; all texts: String;
- whole numbers: Int64, or if they fit no Int64 but UInt64, that;
- fractions, and whole numbers beside them: Float64, if that holds every whole one and none
  overflows (a fraction is the float64 that Python reads);
- lists whose items have one type by this rule: a List of that; objects that all have the
  same members, each of one type: a Struct;
- anything else: text. A text is itself, any other value its JSON, numbers as written.

A column of tables that has one type in all of them keeps that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from curation.texts import Real, Whole, encodable, parse_members, plain_text

if TYPE_CHECKING:
    import polars as pl

MOST_MEMBERS = 1000
"""Of one sample's JSON, each a column. Objects with more are lists of something."""

_EXACT = 2**53  # every whole number up to here is a float64
_BEYOND = 10**20  # stands for what no integer of 64 bits holds


@dataclass(frozen=True)
class Shape:
    """What the values of a column are like, null aside."""

    kinds: frozenset[type] = frozenset()
    """Of bool, str, Whole, Real, list, dict, and object for what no JSON has."""
    least: int = 0
    most: int = 0
    """Of whole numbers, and 0."""
    floats: bool = True
    """Whether float64 holds all numbers."""
    items: "Shape | None" = None
    """Of all lists together."""
    members: Mapping[str, "Shape"] = field(default_factory=dict)
    """Of all objects together."""
    same_members: bool = True
    stored: "pl.DataType | None" = None
    """The type that all of them have in tables."""

    def __or__(self, other: "Shape") -> "Shape":
        """Describe the values of both."""
        if not self.kinds or not other.kinds:
            return self if self.kinds else other
        both_objects = dict in self.kinds and dict in other.kinds
        names = [*self.members, *(n for n in other.members if n not in self.members)]
        return Shape(
            self.kinds | other.kinds,
            min(self.least, other.least),
            max(self.most, other.most),
            self.floats and other.floats,
            (self.items or Shape()) | (other.items or Shape()),
            {
                n: self.members.get(n, Shape()) | other.members.get(n, Shape())
                for n in names
            },
            self.same_members
            and other.same_members
            and (not both_objects or self.members.keys() == other.members.keys()),
            self.stored if self.stored == other.stored else None,
        )

    def type(self) -> "pl.DataType | None":
        """Choose the type that holds them all; None if that is the text of each."""
        import polars as pl

        if self.stored is not None:
            return self.stored
        if self.kinds <= {str}:
            return pl.String()
        if self.kinds == {bool}:
            return pl.Boolean()
        if self.kinds <= {Whole, Real}:
            return self._number_type()
        if self.kinds == {list}:
            items = (self.items or Shape()).type()
            return None if items is None else pl.List(items)
        return self._struct_type() if self.kinds == {dict} else None

    def _number_type(self) -> "pl.DataType | None":
        import polars as pl

        if Real in self.kinds:
            return pl.Float64() if self.floats else None
        if self.least >= -(2**63) and self.most < 2**63:
            return pl.Int64()
        return pl.UInt64() if self.least == 0 and self.most < 2**64 else None

    def _struct_type(self) -> "pl.DataType | None":
        import polars as pl

        members = {column_name(name): shape.type() for name, shape in self.members.items()}
        alike = self.same_members and len(members) == len(self.members) > 0
        if not alike or None in members.values():
            return None
        return pl.Struct({n: kind for n, kind in members.items() if kind is not None})


def shape_of(values: Iterable[Any]) -> Shape:
    """Describe values of :func:`curation.texts.parse_json`."""
    values = [value for value in values if value is not None]
    kinds = {type(value) for value in values}
    of = {kind: [v for v in values if type(v) is kind] for kind in kinds}
    return reduce(Shape.__or__, (_DESCRIBE[kind](of[kind]) for kind in kinds), Shape())


def _whole(values: list[str]) -> Shape:
    numbers = [
        int(v) if len(v) <= 20 else -_BEYOND if v[0] == "-" else _BEYOND for v in values
    ]
    return Shape(
        frozenset({Whole}),
        min(0, *numbers),
        max(0, *numbers),
        all(abs(n) <= _EXACT or _is_float(v) for n, v in zip(numbers, values, strict=True)),
    )


def _is_float(whole: str) -> bool:
    return len(whole) < 309 and int(float(whole)) == int(whole)


def _real(values: list[str]) -> Shape:
    return Shape(frozenset({Real}), floats=all(map(_in_range, values)))


def _in_range(real: str) -> bool:
    number = float(real)
    if number in (float("inf"), float("-inf")):
        return real.endswith("Infinity")
    return number != 0 or not set("123456789") & set(real.lower().partition("e")[0])


def _lists(values: list[list[Any]]) -> Shape:
    return Shape(
        frozenset({list}), items=shape_of(item for value in values for item in value)
    )


def _objects(values: list[dict[str, Any]]) -> Shape:
    names = dict.fromkeys(name for value in values for name in value)
    return Shape(
        frozenset({dict}),
        members={name: shape_of(value.get(name) for value in values) for name in names},
        same_members=all(len(value) == len(names) for value in values),
    )


_DESCRIBE: dict[type, Any] = {
    bool: lambda _values: Shape(frozenset({bool})),
    str: lambda _values: Shape(frozenset({str})),
    Whole: _whole,
    Real: _real,
    list: _lists,
    dict: _objects,
}


def shape_of_series(column: "pl.Series") -> Shape:
    """Describe a column of a table."""
    import polars as pl

    kind, column = column.dtype, column.drop_nulls()
    if kind == pl.Null:
        return Shape()
    if not len(column):
        return Shape(frozenset({_kind_of(kind)}), stored=kind)
    if kind.is_integer():
        least, most = int(column.min()), int(column.max())  # type: ignore[arg-type]
        exact = max(-least, most) <= _EXACT or _all_floats(column)
        return Shape(frozenset({Whole}), min(0, least), max(0, most), exact, stored=kind)
    if isinstance(kind, pl.List | pl.Array):
        return Shape(
            frozenset({list}), items=shape_of_series(column.explode()), stored=kind
        )
    if isinstance(kind, pl.Struct):
        members = {
            f.name: shape_of_series(column.struct.field(f.name)) for f in kind.fields
        }
        return Shape(frozenset({dict}), members=members, stored=kind)
    return Shape(frozenset({_kind_of(kind)}), stored=kind)


def _all_floats(column: "pl.Series") -> bool:
    return all(int(float(number)) == number for number in column)


def _kind_of(kind: "pl.DataType") -> type:
    import polars as pl

    kinds: list[tuple[bool, type]] = [
        (kind.is_integer(), Whole),
        (kind.is_float(), Real),
        (kind == pl.Boolean, bool),
        (isinstance(kind, pl.String | pl.Categorical | pl.Enum), str),
        (isinstance(kind, pl.List | pl.Array), list),
        (isinstance(kind, pl.Struct), dict),
    ]
    return next((found for is_it, found in kinds if is_it), object)


def series_of(name: str, values: Sequence[Any], kind: "pl.DataType | None") -> "pl.Series":
    """Make a column of values of :func:`curation.texts.parse_json`.

    Args:
        name: Of the column.
        values: Its values.
        kind: What :meth:`Shape.type` chose for them and others.
    """
    import polars as pl

    convert = _converter(kind)
    found = [None if value is None else convert(value) for value in values]
    return pl.Series(name, found, dtype=kind or pl.String())


def _converter(kind: "pl.DataType | None") -> Any:
    import polars as pl

    if kind is None or isinstance(kind, pl.String):
        return plain_text
    if isinstance(kind, pl.List | pl.Array):
        inner = _converter(kind.inner)  # type: ignore[arg-type]
        return lambda items: [None if item is None else inner(item) for item in items]
    if isinstance(kind, pl.Struct):
        members = {f.name: _converter(f.dtype) for f in kind.fields}  # type: ignore[arg-type]
        return lambda value: {
            column_name(n): None if v is None else members[column_name(n)](v)
            for n, v in value.items()
        }
    return float if kind.is_float() else int if kind.is_integer() else lambda value: value


def cast_series(column: "pl.Series", kind: "pl.DataType | None") -> "pl.Series":
    """Give a column of a table the type that :meth:`Shape.type` chose."""
    import polars as pl

    if kind is not None:
        return column if column.dtype == kind else column.cast(kind)
    texts = [None if value is None else _stored_text(value) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)


def _stored_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def column_name(name: str) -> str:
    """Write a member's name so that every table can have it as a column's."""
    # Arrow's names end at a NUL, and Polars gives the empty one another
    return encodable(name).replace("\0", "\\x00") or '""'


def json_columns(text: str) -> dict[str, Any]:
    """Read a sample's JSON as columns.

    Raises:
        ValueError: It is no JSON object, or has more than ``MOST_MEMBERS`` members.
    """
    members = parse_members(text)
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"it has {len(members):,} members; {MOST_MEMBERS:,} are the most")
    return {column_name(name): value for name, value in members.items()}
