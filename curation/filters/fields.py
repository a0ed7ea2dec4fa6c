"""Fields of the samples' own JSON, and numbers that a float64 can't hold."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curation.texts import parse_json, plain_text

if TYPE_CHECKING:
    import polars as pl

_WHOLE = re.compile(r"[+-]?[0-9]{1,309}")
_MOST = 2**127 - 1

VERSION = 2
"""Raised when a field's value becomes another one. 2: what JSON can't be is missing alone,
and numbers have all their digits."""


def field_text(documents: "pl.Expr", path: Sequence[str]) -> "pl.Expr":
    """Give a field of each document as a text: texts as they are, all else as written.

    Missing where there is no such field, where it is null, and where the document is no
    JSON that Python's parser takes. Of members of one name the last counts.
    """
    import polars as pl

    return _each_field(documents, path, pl.String)


def field_number(documents: "pl.Expr", path: Sequence[str]) -> "pl.Expr":
    """Give a field of each document as :func:`number_in` reads its text."""
    import polars as pl

    return _each_field(documents, path, pl.Float64)


def _each_field(
    documents: "pl.Expr", path: Sequence[str], kind: "type[pl.DataType]"
) -> "pl.Expr":
    import polars as pl

    def find(column: pl.Series) -> pl.Series:
        texts = pl.Series(
            "text", [None if t is None else _field(t, path) for t in column], pl.String
        )
        if kind == pl.String:
            return texts
        return texts.to_frame().select(number_in(pl.col("text"))).to_series()

    return documents.map_batches(find, return_dtype=kind())


def _field(text: str, path: Sequence[str]) -> str | None:
    try:
        value = parse_json(text)
    except ValueError:
        return None
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return plain_text(value)


def number_in(text: "pl.Expr") -> "pl.Expr":
    """Read texts as numbers, float64: the nearest to what is written; else missing."""
    import polars as pl

    number = text.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def rest_in(text: "pl.Expr") -> "pl.Expr":
    """Give what :func:`number_in` rounds away of whole numbers, Int128; of others 0."""
    import polars as pl

    def find(column: pl.Series) -> pl.Series:
        # fewer characters are fewer digits than a float64 has
        rests = (0 if t is None or len(t) < 16 else _rest(t) for t in column)
        return pl.Series(rests, dtype=pl.Int128)

    return text.map_batches(find, return_dtype=pl.Int128)


def _rest(text: str) -> int:
    return rest_of(int(text)) if _WHOLE.fullmatch(text) else 0


def rest_of(number: int) -> int:
    """Give what float64 rounds away of a whole number, exactly if that has 54 digits."""
    try:
        rest = number - int(float(number))
    except OverflowError:
        return 0
    return max(-_MOST, min(rest, _MOST))
