"""Which of several copies stays: columns with a direction, the first one first.

Every kind of deduplication sorts samples by the same preferences, so that their results
fit together. Ties are broken by the place of the sample, so the order is always total.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import InputError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Preference:
    """A column that decides, unless all before it are equal."""

    column: str
    descending: bool
    """Whether the larger value is preferred."""


def parse_preferences(texts: Iterable[str]) -> tuple[Preference, ...]:
    """Read preferences as a recipe has them: ``aesthetic desc``, ``key asc``.

    Raises:
        InputError: One isn't a column and ``asc`` or ``desc``, or a column comes twice.
    """
    preferences = tuple(_parsed(text) for text in texts)
    columns = [preference.column for preference in preferences]
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"prefer: {column} is there twice; keep the first")
    return preferences


def best_first(
    frame: "pl.DataFrame", preferences: Sequence[Preference], place: Sequence[str]
) -> "pl.DataFrame":
    """Sort rows so that the preferred one comes first.

    Args:
        frame: Has a column for each preference; nulls and NaNs are preferred least.
        preferences: The first decides, unless equal.
        place: Columns that tell any two rows apart, smaller first; they break ties.
    """
    import polars as pl

    floats = pl.selectors.float() & pl.selectors.by_name(
        *(preference.column for preference in preferences), require_all=False
    )
    # Polars takes NaN for the largest number, which would make it the best score.
    return frame.with_columns(floats.fill_nan(None)).sort(
        [*(preference.column for preference in preferences), *place],
        descending=[*(preference.descending for preference in preferences)]
        + [False] * len(place),
        nulls_last=True,
        maintain_order=True,
    )


def order_of(rank: np.ndarray) -> np.ndarray:
    """Give row numbers, the highest rank first, ties by row, NaN last."""
    _, place = np.unique(rank, return_inverse=True)
    if rank.dtype.kind == "f":
        place = np.where(np.isnan(rank), -1, place)
    return np.argsort(-place, kind="stable")


def _parsed(text: str) -> Preference:
    column, _, direction = text.strip().rpartition(" ")
    if not column or direction not in ("asc", "desc"):
        raise InputError(
            f"prefer: expected a column and asc or desc, such as 'aesthetic desc'; found "
            f"{text!r}"
        )
    return Preference(column.strip(), direction == "desc")
