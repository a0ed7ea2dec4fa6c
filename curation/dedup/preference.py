"""Which of several copies stays: columns with a direction, the first one first.

Every kind of deduplication sorts samples by the same preferences, so that their results
fit together. Ties are broken by the place of the sample, so the order is always total.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curation.dedup.rows import (
    ReadColumns,
    distinct,
    is_among,
    ordinals,
    rows_in_shard,
)
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


def read_rows(ids: np.ndarray, read: ReadColumns, columns: Sequence[str]) -> "pl.DataFrame":
    """Read columns of some samples, with ``id`` as one more, grouped by shard."""
    import polars as pl

    columns = list(dict.fromkeys(columns))
    shards = ordinals(ids)
    frames = [pl.DataFrame({"id": pl.Series([], dtype=pl.UInt64)})]
    for shard in np.unique(shards).tolist():
        ours = ids[shards == shard]
        frame = pl.DataFrame({"id": ours})
        if columns:
            rows = pa.array(rows_in_shard(ours))
            frame = frame.hstack(pl.DataFrame(read(shard, columns).take(rows)))
        frames.append(frame)
    return pl.concat(frames[1:] or frames, how="vertical_relaxed")


class Places:
    """The order of preference among samples of many shards.

    Columns are read of the samples that are asked for, and remembered.
    """

    def __init__(self, read: ReadColumns, preferences: Sequence[Preference]) -> None:
        """Begin.

        Args:
            read: Gives the columns that ``preferences`` name.
            preferences: The first decides, unless equal; ties by id.
        """
        self._read = read
        self._preferences = preferences
        self._ids = np.empty(0, np.uint64)
        self._places = np.empty(0, np.int64)
        self._frame: pl.DataFrame | None = None

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Give the place of each sample, int64, the most preferred first.

        Places are comparable within one call only.
        """
        new = distinct(ids[~is_among(ids, self._ids)])
        if len(new):
            self._take(new)
        found: np.ndarray = self._places[np.searchsorted(self._ids, ids)]
        return found

    def _take(self, new: np.ndarray) -> None:
        import polars as pl

        columns = [preference.column for preference in self._preferences]
        frames = [] if self._frame is None else [self._frame]
        frames.append(read_rows(new, self._read, columns))
        self._frame = best_first(
            pl.concat(frames, how="vertical_relaxed"), self._preferences, ["id"]
        )
        ordered = self._frame["id"].to_numpy()
        self._places = np.argsort(ordered)
        self._ids = ordered[self._places]


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
