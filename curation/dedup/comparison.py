"""Comparing the rows of cells: who is like whom, without listing every pair of a crowd.

A picture that is there a million times has 5e11 pairs. So the rows of a cell are taken in
order of preference, and each is compared with the *leaders* so far: rows that are not
within ``leader_similarity`` of a leader before them. A row that is, is a *follower* and
is compared with no further row. Pairs of leaders are then all known, and so are a
follower's with the leaders before it. Where a decision rests on anything else, namely
where a follower is to be kept, ``decision.py`` compares it with the rows that are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from curation.dedup.resolve import keep_greedily
from curation.dedup.rows import distinct
from curation.dedup.vectors import BLOCK_COLUMNS, BLOCK_ROWS, Vectors

_LEAD_ROWS = 512  # rows compared with each other at once, all with all


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which pairs are listed."""

    min_similarity: float
    """Pairs below it are not."""
    leader_similarity: float
    """From which a row follows a leader instead of becoming one; at least
    ``min_similarity``. The higher, the fewer decisions need further comparisons."""
    max_pairs: int = 32
    """Listed per row and cell, those with the most preferred rows. A row that has more is
    treated as a follower."""


@dataclass(frozen=True, eq=False)
class CellRows:
    """Rows with their cells, in order of preference: row 0 is preferred most."""

    vectors: Vectors
    places: np.ndarray
    """``(n,)`` int64: where in ``vectors`` each row is."""
    cells: np.ndarray
    """``(n, m)`` int32: the home cell, then the halo's; -1 where there is none, or where
    it is compared elsewhere."""

    def __len__(self) -> int:
        return len(self.places)

    def where(self, rows: np.ndarray) -> "CellRows":
        """Give some of the rows."""
        return CellRows(self.vectors, self.places[rows], self.cells[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Similar rows, by their numbers in order of preference."""

    row: np.ndarray
    """int64, the one that is preferred less, and so has the larger number."""
    better: np.ndarray
    """int64."""

    def __len__(self) -> int:
        return len(self.row)

    def where(self, mask: np.ndarray) -> "Pairs":
        """Give the pairs that a mask or an index selects."""
        return Pairs(self.row[mask], self.better[mask])

    def among(self, rows: np.ndarray) -> "Pairs":
        """Give the pairs numbered as ``rows`` are, of which these are places."""
        return Pairs(rows[self.row], rows[self.better])


@dataclass(frozen=True, eq=False)
class Compared:
    """What comparing rows has found."""

    pairs: Pairs
    """Each once, sorted by ``row``, then ``better``."""
    is_leader: np.ndarray
    """``(n,)`` bool: the row has its home here, and its pairs with others of which this is
    true are all listed."""
    is_cut: np.ndarray
    """``(n,)`` bool: the row has more pairs than are listed."""


def compare_rows(
    rows: CellRows, thresholds: Thresholds, is_old: np.ndarray | None = None
) -> Compared:
    """Find the pairs of comparable rows that are similar.

    Args:
        rows: Old rows come first.
        thresholds: What to list.
        is_old: ``(n,)`` bool: rows that were compared with each other before. Those that
            have their home here are leaders. By default none is old.
    """
    old = np.zeros(len(rows), bool) if is_old is None else is_old
    home, halo = _by_cell(rows.cells[:, :1]), _by_cell(rows.cells[:, 1:])
    is_leader = old & (rows.cells[:, 0] >= 0)
    found = _PairList(len(rows), thresholds.max_pairs)
    for cell in home:
        settled, new = home[cell][old[home[cell]]], home[cell][~old[home[cell]]]
        is_leader[_lead(rows, settled, new, thresholds, found)] = True
    # Rows whose home is elsewhere may be leaders there.
    matters = is_leader | (rows.cells[:, 0] < 0)
    for cell in home.keys() & halo.keys():
        leaders = home[cell][is_leader[home[cell]]]
        shown = halo[cell][matters[halo[cell]]]
        found.begin_cell()
        _cross(rows, shown[~old[shown]], leaders, thresholds.min_similarity, found)
        new = leaders[~old[leaders]]
        _cross(rows, shown[old[shown]], new, thresholds.min_similarity, found)
    pairs = found.pairs()
    return Compared(pairs, is_leader & ~found.is_cut, found.is_cut)


def compare_some(
    rows: CellRows,
    some: np.ndarray,
    others: np.ndarray,
    min_similarity: float,
    max_pairs: int,
) -> tuple[Pairs, bool]:
    """Find similar pairs of comparable rows, one of ``some`` and one of ``others`` each.

    Args:
        rows: All of them.
        some: ``(n,)`` bool.
        others: ``(n,)`` bool, none of which is among ``some``.
        min_similarity: Pairs below it are not listed.
        max_pairs: Listed per row and cell, those with the most preferred rows.

    Returns:
        The pairs, and whether any row has more than are listed.
    """
    home, halo = _by_cell(rows.cells[:, :1]), _by_cell(rows.cells[:, 1:])
    nobody = np.empty(0, np.int64)
    found = _PairList(len(rows), max_pairs)
    for cell, members in home.items():
        shown = halo.get(cell, nobody)
        found.begin_cell()
        ours = np.concatenate([members[some[members]], shown[some[shown]]])
        _cross(rows, ours, members[others[members]], min_similarity, found)
        _cross(rows, shown[others[shown]], members[some[members]], min_similarity, found)
    return found.pairs(), bool(found.is_cut.any())


def join_pairs(parts: Sequence[Pairs], num_rows: int) -> Pairs:
    """Put pairs together, each once, sorted by ``row``, then ``better``."""
    numbers = np.concatenate([part.row * num_rows + part.better for part in parts])
    return Pairs(*np.divmod(distinct(numbers), max(num_rows, 1)))


class _PairList:
    """Pairs found so far, with at most so many per row and cell."""

    def __init__(self, num_rows: int, max_pairs: int) -> None:
        self.num_rows = num_rows
        self.max_pairs = max_pairs
        self.is_cut = np.zeros(num_rows, bool)
        self._done: list[np.ndarray] = []
        self._current = np.empty(0, np.int64)

    def begin_cell(self) -> None:
        """Count the pairs of each row from zero again."""
        self._done.append(self._current)
        self._current = np.empty(0, np.int64)

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """Add pairs of the current cell, whichever row of each is the better."""
        if not len(one):
            return
        # One number for a pair sorts by row, then by how preferred the better one is.
        new = np.maximum(one, other) * self.num_rows + np.minimum(one, other)
        pairs = distinct(np.concatenate([self._current, new]))
        row = pairs // self.num_rows
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        self.is_cut[row[rank == self.max_pairs]] = True
        self._current = pairs[rank < self.max_pairs]

    def pairs(self) -> Pairs:
        """Give all pairs, each once."""
        self.begin_cell()
        found = distinct(np.concatenate(self._done))
        return Pairs(*np.divmod(found, max(self.num_rows, 1)))


def _by_cell(cells: np.ndarray) -> dict[int, np.ndarray]:
    """List the rows of each cell, in order."""
    row, column = np.nonzero(cells >= 0)
    cell = cells[row, column]
    order = np.argsort(cell, kind="stable")
    row, cell = row[order], cell[order]
    names, starts = np.unique(cell, return_index=True)
    return (
        dict(zip(names.tolist(), np.split(row, starts[1:]), strict=True))
        if len(row)
        else {}
    )


def _lead(
    rows: CellRows,
    settled: np.ndarray,
    new: np.ndarray,
    thresholds: Thresholds,
    found: _PairList,
) -> np.ndarray:
    """Find the leaders among the new rows of a cell, and the pairs with leaders."""
    if not len(new):
        return new
    found.begin_cell()
    leaders = _Leaders(rows, settled, len(new))
    for block in _blocks(new, _LEAD_ROWS):
        half = rows.vectors.half(rows.places[block])
        follows = np.zeros(len(block), bool)
        for i, leader, cosine in leaders.like(block, half, thresholds.min_similarity):
            follows[i[cosine >= thresholds.leader_similarity]] = True
            found.add(block[i], leader)
        open_ = np.flatnonzero(~follows)
        new_leaders = _lead_each_other(rows, block[open_], half[open_], thresholds, found)
        leaders.add(block[open_][new_leaders], half[open_][new_leaders])
    return leaders.rows()[len(settled) :]


def _lead_each_other(
    rows: CellRows,
    block: np.ndarray,
    half: torch.Tensor,
    thresholds: Thresholds,
    found: _PairList,
) -> np.ndarray:
    """Find the leaders among rows that follow nobody; give their places in the block."""
    if len(block) < 2:
        return np.arange(len(block))
    places = rows.places[block]
    i, j, cosine = rows.vectors.similar_pairs(
        places, places, thresholds.min_similarity, half, half
    )
    earlier = j < i
    i, j, cosine = i[earlier], j[earlier], cosine[earlier]
    close = cosine >= thresholds.leader_similarity
    leads = keep_greedily(i[close], j[close], len(block))
    found.add(block[i[leads[j]]], block[j[leads[j]]])
    return np.flatnonzero(leads)


class _Leaders:
    """The leaders of a cell, with their vectors ready for products."""

    def __init__(self, rows: CellRows, settled: np.ndarray, num_new: int) -> None:
        self._vectors = rows.vectors
        self._places = rows.places
        self._rows = np.empty(len(settled) + num_new, np.int64)
        half = rows.vectors.half(rows.places[settled])
        self._half = half.new_empty((len(self._rows), half.shape[1]))
        self._count = 0
        self.add(settled, half)

    def add(self, rows: np.ndarray, half: torch.Tensor) -> None:
        """Append leaders, which are preferred less than all before them."""
        end = self._count + len(rows)
        self._rows[self._count : end] = rows
        self._half[self._count : end] = half
        self._count = end

    def rows(self) -> np.ndarray:
        """Give all leaders, the most preferred first."""
        return self._rows[: self._count]

    def like(
        self, block: np.ndarray, half: torch.Tensor, bound: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Find leaders similar to rows: places in the block, leaders, and cosines."""
        for start in range(0, self._count, BLOCK_COLUMNS):
            some = slice(start, min(start + BLOCK_COLUMNS, self._count))
            leaders = self._rows[some]
            i, j, cosine = self._vectors.similar_pairs(
                self._places[block], self._places[leaders], bound, half, self._half[some]
            )
            yield i, leaders[j], cosine


def _cross(
    rows: CellRows, shown: np.ndarray, members: np.ndarray, bound: float, found: _PairList
) -> None:
    """Find pairs of rows that are shown to a cell, and rows that have their home in it."""
    if not len(shown) or not len(members):
        return
    leaders = _Leaders(rows, members, 0)
    for block in _blocks(shown, BLOCK_ROWS):
        half = rows.vectors.half(rows.places[block])
        for i, member, _ in leaders.like(block, half, bound):
            found.add(block[i], member)


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
