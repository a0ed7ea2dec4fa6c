"""Which threshold to choose: what each would catch, and what it would cost.

What a cosine says of two pictures hangs on the encoder and on the data, so a threshold
that others found right says little. Two things are measured here: how many pairs there are
in each band of similarity, with examples to look at; and which edits of the user's own
pictures (``edits.py``) each threshold finds again, and how many pairs of different
pictures it takes for copies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.edits import EDITS, edited
from curation.dedup.incremental import known_edges
from curation.dedup.state import State
from curation.errors import InputError

BOUNDS = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.999)
THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
DISTANCES = (0, 8, 16, 24, 31)

Embed = Callable[[Sequence[bytes]], np.ndarray]
"""Gives ``(N, dim)`` vectors of unit length of encoded images."""

HashImages = Callable[[Sequence[bytes]], np.ndarray]
"""Gives ``(N, 32)`` uint8 perceptual hashes of encoded images."""


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


def measure_edits(
    images: Sequence[bytes],
    embed: Embed,
    *,
    hash_images: HashImages | None = None,
    edits: Sequence[str] = tuple(EDITS),
) -> pa.Table:
    """Measure what thresholds catch of edited copies, and of pairs of different images.

    Args:
        images: Encoded, some hundreds of the user's own; all different, since copies
            among them would count as mistakes.
        embed: Gives their vectors, and those of the edited ones.
        hash_images: Gives perceptual hashes; None leaves that method out.
        edits: Names in ``EDITS``.

    Returns:
        ``method`` (``semantic`` or ``perceptual``), ``threshold`` (a cosine, or bits that
        differ), ``edit`` (null for pairs of different images), and of how many ``pairs``
        how many are ``caught``.

    Raises:
        InputError: There are fewer than two images, or one can't be decoded.
        UnknownNameError: There is no edit of that name.
    """
    if len(images) < 2:
        raise InputError(f"calibrating takes two images at least; found {len(images)}")
    vectors = embed(images)
    hashes = None if hash_images is None else hash_images(images)
    rows = [*_caught_by_cosine(None, _off_diagonal(_unit(vectors) @ _unit(vectors).T))]
    if hashes is not None:
        rows += _caught_by_hash(None, _off_diagonal(_distances(hashes, hashes)))
    for name in edits:
        copies = [edited(image, name) for image in images]
        cosines = (_unit(vectors) * _unit(embed(copies))).sum(axis=1)
        rows += _caught_by_cosine(name, cosines)
        if hash_images is not None and hashes is not None:
            bits = np.bitwise_count(hashes ^ hash_images(copies)).sum(axis=1)
            rows += _caught_by_hash(name, bits)
    return pa.Table.from_pylist(rows, schema=_EDITS_SCHEMA)


_EDITS_SCHEMA = pa.schema(
    [
        pa.field("method", pa.string(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("edit", pa.string()),
        pa.field("pairs", pa.int64(), nullable=False),
        pa.field("caught", pa.int64(), nullable=False),
    ]
)


def _caught_by_cosine(edit: str | None, cosines: np.ndarray) -> list[Mapping[str, object]]:
    return [
        _row("semantic", bound, edit, cosines >= np.float32(bound)) for bound in THRESHOLDS
    ]


def _caught_by_hash(edit: str | None, bits: np.ndarray) -> list[Mapping[str, object]]:
    return [_row("perceptual", most, edit, bits <= most) for most in DISTANCES]


def _row(
    method: str, threshold: float, edit: str | None, caught: np.ndarray
) -> Mapping[str, object]:
    return {
        "method": method,
        "threshold": float(threshold),
        "edit": edit,
        "pairs": len(caught),
        "caught": int(caught.sum()),
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    rows = vectors.astype(np.float32)
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Count the bits that differ for all pairs, one row at a time."""
    return np.stack([np.bitwise_count(row ^ other).sum(axis=1) for row in one])


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    found: np.ndarray = matrix[np.triu_indices(len(matrix), 1)]
    return found
