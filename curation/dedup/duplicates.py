"""One answer over all kinds of duplicates, for the shards that there are now.

PyTorch is loaded only where vectors take part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from curation.dedup.exact import find_exact_duplicates
from curation.dedup.perceptual import HASH_BYTES, MAX_DISTANCE, find_perceptual_pairs
from curation.dedup.preference import Places, parse_preferences
from curation.dedup.resolve import (
    PERCEPTUAL,
    Edges,
    PlaceOf,
    Removals,
    directed,
    join_edges,
    make_edges,
    resolve,
)
from curation.dedup.rows import ReadColumns, row_ids
from curation.errors import InputError

if TYPE_CHECKING:
    from curation.dedup.state import State

COMPUTED = ("centroid_similarity", "random")
"""Columns that can be preferred by wherever there is a state, which computes them.

SemDeDup's "hard" is ``centroid_similarity asc``, its "easy" ``centroid_similarity desc``.
``random`` is drawn from the vector, so that it is the same whenever that is asked.
"""

USUAL_FLOOR = 0.9
"""Pairs are kept down to it, so that a raised threshold costs nothing."""

_NOBODY = np.empty(0, np.uint64)


def similarity_floor(min_similarity: float) -> float:
    """Give the cosine down to which pairs are kept for a threshold."""
    return min(USUAL_FLOOR, min_similarity)


@dataclass(frozen=True, slots=True)
class Rule:
    """Which samples are duplicates, and which of them stays."""

    prefer: tuple[str, ...]
    """Columns with ``asc`` or ``desc``, first one first; ties by shard, then row."""
    exact: bool | Literal["pixels"] = True
    """Samples whose image components have the same bytes, or the same pixels."""
    max_perceptual_distance: int | None = None
    """Bits, 31 at most, that the perceptual hashes of two samples differ in; None leaves
    this kind out."""
    min_similarity: float | None = None
    """Cosine of two samples' vectors; None leaves this kind out."""

    def __post_init__(self) -> None:
        parse_preferences(self.prefer)
        distance, similarity = self.max_perceptual_distance, self.min_similarity
        if distance is not None and not 0 <= distance <= MAX_DISTANCE:
            raise InputError(
                f"max_perceptual_distance is {distance}; expected 0 to {MAX_DISTANCE}"
            )
        if similarity is not None and not 0 < similarity <= 1:
            raise InputError(f"min_similarity is {similarity}; expected more than 0, to 1")


@dataclass(frozen=True, eq=False)
class ComparedShards:
    """Where vectors of the shards were compared."""

    state: "State"
    ordinals: Sequence[int]
    """Of each shard in the state: see ``current_ordinals``."""


def find_duplicates(
    num_shards: int,
    read: ReadColumns,
    rule: Rule,
    *,
    compared: ComparedShards | None = None,
    released: np.ndarray = _NOBODY,
    device: str | None = None,
) -> Removals:
    """Decide which samples of some shards go, and which kept one stands for each.

    The answer hangs on the shards and the rule alone, not on when shards came.

    Args:
        num_shards: How many there are. Ids, here and in the result, are made of a shard's
            ordinal, from 0 to ``num_shards - 1``, and the row.
        read: Gives columns of a shard: those that ``rule.prefer`` names, ``error``,
            ``sha256`` or ``pixel_sha256``, and ``perceptual_hash``.
        rule: Which kinds count, and what is preferred.
        compared: The state that has the shards' vectors; needed for ``min_similarity``.
        released: Ids of samples that stay, because they were published.
        device: Where to compare vectors; by default a GPU if there is one.

    Raises:
        InputError: There is no state, or it was made for higher similarities.
        StaleError: Vectors of a shard were not added to the state, or not compared.
    """
    if rule.min_similarity is not None and compared is None:
        raise InputError("min_similarity is set, but there is no state with vectors")
    if compared is not None:
        read = _with_computed(read, compared)
    preferences = parse_preferences(rule.prefer)
    place_of = Places(read, preferences)
    shards, exact = range(num_shards), None
    if rule.exact:
        column = "pixel_sha256" if rule.exact == "pixels" else "sha256"
        copies = find_exact_duplicates(shards, read, preferences, column=column)
        exact = (copies["removed"].to_numpy(), copies["survivor"].to_numpy())
    edges = join_edges([])
    if rule.max_perceptual_distance is not None:
        max_distance = rule.max_perceptual_distance
        edges = _perceptual(num_shards, read, place_of, released, max_distance)
    if rule.min_similarity is None or compared is None:
        return resolve(directed(edges, place_of), exact=exact, released=released)
    from curation.dedup.incremental import decide_shards

    return decide_shards(
        compared.state,
        compared.ordinals,
        place_of,
        min_similarity=rule.min_similarity,
        edges=edges,
        exact=exact,
        released=released,
        device=device,
    )


def _perceptual(
    num_shards: int,
    read: ReadColumns,
    place_of: PlaceOf,
    released: np.ndarray,
    max_distance: int,
) -> Edges:
    """Find pairs of samples whose hashes are close."""
    found, hashes = [_NOBODY], [np.empty((0, HASH_BYTES), np.uint8)]
    for shard in range(num_shards):
        table = read(shard, ["perceptual_hash", "error"])
        usable = table["perceptual_hash"].is_valid().to_numpy()
        usable &= table["error"].is_null().to_numpy()
        rows = np.flatnonzero(usable)
        data = b"".join(table["perceptual_hash"].take(pa.array(rows)).to_pylist())
        found.append(row_ids(shard, rows))
        hashes.append(np.frombuffer(data, np.uint8).reshape(-1, HASH_BYTES))
    ids = np.concatenate(found)
    # Of a crowd with the same hash only the first is paired: it must be one that stays.
    places = place_of(ids)
    rank = np.isin(ids, released) * (1 + places.max(initial=0)) - places
    pairs = find_perceptual_pairs(np.concatenate(hashes), rank, max_distance=max_distance)
    return make_edges(
        ids[pairs["row"].to_numpy()],
        ids[pairs["better"].to_numpy()],
        1 - pairs["distance"].to_numpy() / (8 * HASH_BYTES),
        PERCEPTUAL,
    )


def _with_computed(read: ReadColumns, compared: ComparedShards) -> ReadColumns:
    """Add the columns that the state computes to those that a shard has."""

    def read_all(ordinal: int, columns: Sequence[str]) -> pa.Table:
        if not set(columns) & set(COMPUTED):
            return read(ordinal, columns)
        from curation.dedup.assignment import read_computed

        # One more column, because a table of none can't say how many rows it has.
        own = [name for name in columns if name not in COMPUTED]
        table = read(ordinal, [*own, "error"] if "error" not in own else own)
        state, place = compared.state, compared.ordinals[ordinal]
        computed = read_computed(state, place, table.num_rows)
        for name in computed.column_names:
            table = table.append_column(name, computed[name])
        return table.select(columns)

    return read_all
