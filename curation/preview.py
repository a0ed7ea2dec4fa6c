"""What another threshold would keep, and which samples change sides between two filters.

Pure functions over the tables that a selection reads: no image, no vector, no model, and
nothing is written. What ``curate preview`` and ``curate diff`` print comes from here.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from curation.errors import InputError
from curation.filters.expression import Filter
from curation.filters.syntax import is_written, kind_of, shown, written_value
from curation.selection import conjunct_values, judged_schema

if TYPE_CHECKING:
    import polars as pl

Operator = Literal["<", "<=", ">", ">="]

HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Threshold:
    """A conjunct of a filter that compares one number with a written one."""

    conjunct: int
    """Its place among ``Filter.conjuncts``."""
    subject: str
    """What is compared: mostly a column."""
    operator: Operator
    """With the subject to the left."""
    value: float

    def holds(self, values: np.ndarray, threshold: float) -> np.ndarray:
        """Tell which of ``(N,)`` values would pass another threshold; NaN never does."""
        passes: np.ndarray = _COMPARE[self.operator](values, threshold)
        return passes


_COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_SYMBOLS: dict[type[ast.cmpop], Operator] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRRORED: dict[Operator, Operator] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Preview:
    """What thresholds would keep."""

    threshold: Threshold
    num_samples: int
    """Of all that are not quarantined."""
    num_missing: int
    """Of those, how many have no value, and are dropped at any threshold."""
    grid: pa.Table
    """One row per threshold: ``threshold`` float64; ``kept_alone``, how many this conjunct
    lets pass; ``kept``, how many the whole filter keeps; both int64."""
    histogram: np.ndarray
    """``(40,)`` counts of values."""
    edges: np.ndarray
    """``(41,)`` float64, of the histogram's bins."""
    nearest_kept: list[tuple[str, str, float]]
    """Shard, key and value of samples just inside the present threshold, nearest first,
    of those that all other conjuncts keep."""
    nearest_dropped: list[tuple[str, str, float]]
    """Likewise just outside."""


def find_thresholds(filter_: Filter) -> list[Threshold]:
    """Find the conjuncts that a preview can vary, in the order of the filter."""
    found = (_threshold(number, part.node) for number, part in enumerate(filter_.conjuncts))
    return [threshold for threshold in found if threshold is not None]


def preview_threshold(
    filter_: Filter,
    samples: Mapping[str, "pl.DataFrame"],
    threshold: Threshold,
    grid: Sequence[float] | None = None,
    num_nearest: int = 8,
) -> Preview:
    """Count what a grid of thresholds would keep.

    Args:
        filter_: With its cuts bound, if it has any; they stay where they are.
        samples: ``selection.judged_samples`` of each shard.
        threshold: One of :func:`find_thresholds`.
        grid: The thresholds; by default the present one and the deciles of the values.
        num_nearest: How many samples to name on each side of the present threshold.
    """
    parts = [_values(filter_, shard, frame, threshold) for shard, frame in samples.items()]
    values = np.concatenate([part.values for part in parts] or [np.empty(0)])
    others = np.concatenate([part.others for part in parts] or [np.empty(0, bool)])
    known = values[~np.isnan(values)]
    counts, edges = np.histogram(known, bins=HISTOGRAM_BINS)
    thresholds = _default_grid(known, threshold.value) if grid is None else list(grid)
    passing = [threshold.holds(values, value) for value in thresholds]
    return Preview(
        threshold=threshold,
        num_samples=len(values),
        num_missing=len(values) - len(known),
        grid=pa.table(
            {
                "threshold": pa.array(thresholds, pa.float64()),
                "kept_alone": [int(mask.sum()) for mask in passing],
                "kept": [int((mask & others).sum()) for mask in passing],
            }
        ),
        histogram=counts,
        edges=edges,
        nearest_kept=_nearest(parts, threshold, num_nearest, kept=True),
        nearest_dropped=_nearest(parts, threshold, num_nearest, kept=False),
    )


def compare_selections(before: pa.Table, after: pa.Table) -> pa.Table:
    """List the samples of one shard that change sides between two selections.

    Args:
        before: A table of :data:`curation.tables.SELECTION`.
        after: Another one of the same shard, rows in any order.

    Returns:
        ``key``, ``change`` (``added``: kept only after; ``removed``: kept only before) and
        ``reasons``, those of the selection that drops it; in the order of ``before``.

    Raises:
        InputError: The two are not of the same samples.
    """
    import polars as pl

    first, second = _frame(before), _frame(after)
    both = first.join(second, on=["key", "nth"], suffix="_after", maintain_order="left")
    if not len(first) == len(second) == len(both):
        raise InputError("the two selections are of different samples; make both again")
    changed = both.filter(pl.col("kept") != pl.col("kept_after")).select(
        "key",
        change=pl.when(pl.col("kept")).then(pl.lit("removed")).otherwise(pl.lit("added")),
        reasons=pl.when(pl.col("kept")).then("reasons_after").otherwise("reasons"),
    )
    return changed.to_arrow().cast(_CHANGES)


_CHANGES = pa.schema(
    [("key", pa.string()), ("change", pa.string()), ("reasons", pa.list_(pa.string()))]
)


def _frame(selection: pa.Table) -> "pl.DataFrame":
    import polars as pl

    frame = pl.from_arrow(selection)
    assert isinstance(frame, pl.DataFrame)
    # a key that repeats in its shard is there for every sample that has it
    return frame.with_columns(nth=pl.int_range(pl.len()).over("key"))


@dataclass(frozen=True)
class _ShardValues:
    shard: str
    keys: "pl.Series"
    values: np.ndarray
    """``(N,)`` float64 of the subject; NaN where it is missing."""
    others: np.ndarray
    """``(N,)`` bool: all other conjuncts are true."""


def _values(
    filter_: Filter, shard: str, frame: "pl.DataFrame", threshold: Threshold
) -> _ShardValues:
    truths = conjunct_values(frame, filter_)
    others = np.ones(len(frame), bool)
    for number, name in enumerate(truths.columns):
        if number != threshold.conjunct:
            others &= truths[name].fill_null(False).to_numpy()
    subject = filter_.number(threshold.subject, judged_schema(frame))
    values = frame.with_columns(_subject=subject)["_subject"]
    return _ShardValues(
        shard, frame["key"], values.fill_null(float("nan")).to_numpy(), others
    )


def _nearest(
    parts: Sequence[_ShardValues], threshold: Threshold, count: int, *, kept: bool
) -> list[tuple[str, str, float]]:
    found = [near for part in parts for near in _nearest_of(part, threshold, count, kept)]
    return sorted(found, key=lambda item: abs(item[2] - threshold.value))[:count]


def _nearest_of(
    part: _ShardValues, threshold: Threshold, count: int, kept: bool
) -> Iterator[tuple[str, str, float]]:
    side = threshold.holds(part.values, threshold.value) == kept
    rows = np.flatnonzero(side & part.others & ~np.isnan(part.values))
    distance = np.abs(part.values[rows] - threshold.value)
    for row in rows[np.argsort(distance, kind="stable")[:count]].tolist():
        yield part.shard, part.keys[row], float(part.values[row])


def _default_grid(values: np.ndarray, present: float) -> list[float]:
    if not len(values):
        return [present]
    deciles = np.quantile(values, np.linspace(0.1, 0.9, 9))
    return sorted({present, *deciles.tolist()})


def _threshold(number: int, node: ast.expr) -> Threshold | None:
    if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
        return None
    operator = _SYMBOLS.get(type(node.ops[0]))
    left, right = node.left, node.comparators[0]
    if operator is None or is_written(left) == is_written(right):
        return None
    if is_written(left):
        left, right, operator = right, left, _MIRRORED[operator]
    value = written_value(right)
    if kind_of(value) != "number":
        return None  # no filter that fits its columns orders anything else
    return Threshold(number, shown(left), operator, float(value))
