"""Which threshold to choose: what each would catch, and what it would cost.

What a cosine says of two pictures hangs on the encoder and on the data, so a threshold
that others found right says little. Two things are measured here: how many pairs there are
in each band of similarity, with examples to look at; and which edits of the user's own
pictures (``edits.py``) each threshold finds again, and how many pairs of different
pictures it takes for copies.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.edits import EDITS, edited
from curation.dedup.incremental import known_edges
from curation.dedup.state import State
from curation.errors import InputError
from curation.tables import EMBEDDING, embedding_matrix

BOUNDS = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.999)
THRESHOLDS: Mapping[str, Sequence[float]] = {
    "exact": (1.0,),
    "perceptual": (0, 8, 16, 24, 31),
    "semantic": (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99),
}
"""Of each method, what is measured: equal bytes, bits of 256 that differ at most, and the
least cosine."""

NUM_CLOSEST = 12
_NO_HASH = 257  # bits: further than any

Embed = Callable[[Sequence[bytes]], pa.Table]
"""Gives the embeddings table of encoded images: ``sha256``, ``perceptual_hash`` and
``image_embedding``, one row an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Pairs that are about equally similar."""

    low: float
    """Cosine from which pairs are in the band."""
    high: float
    """Cosine below which they are; the last band has those of 1 too."""
    num_pairs: int
    examples: tuple[tuple[int, int, float], ...]
    """Ids of two samples and their cosine, evenly drawn from the band."""


def similarity_bands(
    state: State,
    shards: Sequence[int],
    *,
    bounds: Sequence[float] = BOUNDS,
    num_examples: int = 12,
    seed: int = 0,
) -> list[Band]:
    """Count the pairs of samples in bands of similarity, with examples of each.

    Of crowds that are closer than the state's ``leader_similarity``, only the pairs with
    the crowd's first are counted.

    Args:
        state: Has compared the shards.
        shards: The state's ordinals of those that take part: see ``current_ordinals``.
        bounds: Where bands begin, ascending, from the state's ``similarity_floor`` on.
        num_examples: At most, of each band.
        seed: Which examples are drawn.

    Returns:
        One for each bound. Ids have a shard's place in ``shards`` for its ordinal.

    Raises:
        InputError: The bounds are out of order, or below the floor.
        StaleError: Some of the shards' vectors were not compared yet.
    """
    floor = state.settings.similarity_floor
    if not bounds or list(bounds) != sorted(set(bounds)) or not floor <= bounds[0] <= 1:
        raise InputError(
            f"bounds are {tuple(bounds)}; expected ascending cosines from {floor}, the "
            f"floor of {state.folder}, to 1"
        )
    edges, _ = known_edges(state, shards)
    rng = np.random.default_rng(seed)
    bands = []
    for low, high in zip(bounds, [*bounds[1:], np.inf], strict=True):
        inside = np.flatnonzero(
            (edges.similarity >= np.float32(low)) & (edges.similarity < np.float32(high))
        )
        chosen = rng.choice(inside, min(num_examples, len(inside)), replace=False)
        chosen = chosen[np.argsort(edges.similarity[chosen], kind="stable")]
        columns = edges.row[chosen], edges.better[chosen], edges.similarity[chosen]
        examples = tuple(zip(*(column.tolist() for column in columns), strict=True))
        bands.append(Band(low, min(high, 1.0), len(inside), examples))
    return bands


@dataclass(frozen=True, slots=True)
class ClosePair:
    """Two different images that are like each other."""

    one: int
    """Which of the images."""
    other: int
    cosine: float
    bits: int | None
    """In which their perceptual hashes differ; None if one has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What thresholds catch."""

    table: pa.Table
    """``method``, ``threshold``, ``edit`` (null for pairs of different images), and of how
    many ``pairs`` how many are ``caught``."""
    closest: tuple[ClosePair, ...]
    """The most similar pairs of different images, what mistakes look like: first those with
    close hashes, then by cosine."""
    copies: tuple[ClosePair, ...]
    """Pairs that were left out, since both methods take them for copies of each other."""


def measure_edits(
    images: Sequence[bytes], embed: Embed, *, edits: Sequence[str] = tuple(EDITS)
) -> Calibration:
    """Measure what thresholds catch of edited copies, and of pairs of different images.

    Args:
        images: Encoded, some hundreds of the user's own. Of those that are copies of
            each other by the loosest thresholds of both methods, the first is taken, since
            pairs of them would count as mistakes.
        embed: Gives their vectors and hashes, and those of the edited ones.
        edits: Names in ``EDITS``.

    Raises:
        InputError: There are fewer than two images, or one can't be decoded.
        UnknownNameError: There is no edit of that name.
    """
    if len(images) < 2:
        raise InputError(f"calibrating takes two images at least; found {len(images)}")
    everything = _Described.of(embed(images))
    pairs = everything.compared_with_each_other()
    one, other = np.triu_indices(len(images), 1)
    agreed = (pairs["perceptual"] <= max(THRESHOLDS["perceptual"])) & (
        pairs["semantic"] >= min(THRESHOLDS["semantic"])
    )
    taken = np.setdiff1d(np.arange(len(images)), other[agreed])
    different = np.isin(one, taken) & np.isin(other, taken)
    rows = list(_caught(None, {name: found[different] for name, found in pairs.items()}))
    originals = everything.take(taken)
    for name in edits:
        copies = _Described.of(embed([edited(images[i], name) for i in taken]))
        rows += _caught(name, originals.compared(copies))

    def closest(which: np.ndarray) -> tuple[ClosePair, ...]:
        which = np.flatnonzero(which & np.isfinite(pairs["semantic"]))
        far = pairs["perceptual"][which] > max(THRESHOLDS["perceptual"])
        first = which[np.lexsort((-pairs["semantic"][which], far))[:NUM_CLOSEST]]
        columns = (one, other, pairs["semantic"], pairs["perceptual"])
        found = zip(*(column[first].tolist() for column in columns), strict=True)
        return tuple(
            ClosePair(i, j, cosine, None if bits == _NO_HASH else bits)
            for i, j, cosine, bits in found
        )

    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    return Calibration(table, closest(different), closest(agreed))


def num_pairs(table: pa.Table) -> int:
    """Give how many pairs of different images were compared.

    Args:
        table: Of a :class:`Calibration`.
    """
    found = {row["pairs"] for row in table.to_pylist() if row["edit"] is None}
    return max(found, default=0)


def most_lenient(table: pa.Table, method: str) -> float | None:
    """Give the threshold that catches most, of those that take no different images for one.

    Args:
        table: Of a :class:`Calibration`.
        method: In ``THRESHOLDS``.

    Returns:
        None if every threshold does.
    """
    harmless = [
        row["threshold"]
        for row in table.to_pylist()
        if (row["method"], row["edit"], row["caught"]) == (method, None, 0)
    ]
    return (max if method == "perceptual" else min)(harmless, default=None)


_SCHEMA = pa.schema(
    [
        pa.field("method", pa.string(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("edit", pa.string()),
        pa.field("pairs", pa.int64(), nullable=False),
        pa.field("caught", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class _Described:
    """What methods compare of images."""

    sha256: np.ndarray
    hashes: np.ndarray
    """``(N, 32)`` uint8."""
    has_hash: np.ndarray
    vectors: np.ndarray
    """``(N, dim)`` float32 of unit length; NaN where there is none."""

    @classmethod
    def of(cls, table: pa.Table) -> "_Described":
        vectors, valid = embedding_matrix(table[EMBEDDING])
        rows = vectors.astype(np.float32)
        rows[~valid] = np.nan
        texts = [found or bytes(32) for found in table["perceptual_hash"].to_pylist()]
        return cls(
            table["sha256"].to_numpy(),
            np.frombuffer(b"".join(texts), np.uint8).reshape(-1, 32),
            table["perceptual_hash"].is_valid().to_numpy(),
            rows / np.linalg.norm(rows, axis=1, keepdims=True),
        )

    def take(self, rows: slice | np.ndarray) -> "_Described":
        parts = (self.sha256, self.hashes, self.has_hash, self.vectors)
        return _Described(*(part[rows] for part in parts))

    def compared(self, other: "_Described") -> dict[str, np.ndarray]:
        """Compare row by row; give what each method judges by."""
        bits = np.bitwise_count(self.hashes ^ other.hashes).sum(axis=1, dtype=np.int64)
        return {
            "exact": (self.sha256 == other.sha256).astype(np.float32),
            "perceptual": np.where(self.has_hash & other.has_hash, bits, _NO_HASH),
            "semantic": (self.vectors * other.vectors).sum(axis=1),
        }

    def compared_with_each_other(self) -> dict[str, np.ndarray]:
        """Compare all pairs, in the order of ``numpy.triu_indices(n, 1)``."""
        parts = [
            self.take(slice(row, row + 1)).compared(self.take(slice(row + 1, None)))
            for row in range(len(self.sha256) - 1)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in THRESHOLDS}


def _caught(
    edit: str | None, compared: Mapping[str, np.ndarray]
) -> Iterator[dict[str, object]]:
    for method, thresholds in THRESHOLDS.items():
        found = compared[method]
        for threshold in thresholds:
            near = (
                found <= threshold
                if method == "perceptual"
                else found >= np.float32(threshold)
            )
            yield {
                "method": method,
                "threshold": float(threshold),
                "edit": edit,
                "pairs": len(near),
                "caught": int(near.sum()),
            }
