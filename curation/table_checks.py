"""What is wrong with tables that were read back: nothing, if all is as promised.

The steps that make tables promise these things; here they are looked at afterwards, from
the files alone, so that a fault of a step, of a storage or of somebody's own script shows.
Each function gives faults as sentences, none if there are none.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.classifiers.base import UNIT_TOLERANCE, Classifier
from curation.fingerprint import Json
from curation.tables import EMBEDDING, embedding_matrix, table_about

RANGE_TOLERANCE = 1e-4
"""How far a score may lie outside of its range: what float32 sums are off by."""


def row_faults(keys: Sequence[str], table: pa.Table) -> Iterator[str]:
    """Compare a table's rows with the samples of the shard.

    Args:
        keys: Of the samples, in the order of the index.
        table: With a column ``key``.
    """
    found = table["key"].to_pylist()
    if len(found) != len(keys):
        yield f"{len(found)} rows for {len(keys)} samples of the index"
        return
    differ = [
        row for row, pair in enumerate(zip(keys, found, strict=True)) if len({*pair}) > 1
    ]
    if differ:
        row = differ[0]
        yield (
            f"{len(differ)} keys are not the index's, the first in row {row}: "
            f"{found[row]!r}, not {keys[row]!r}"
        )


def vector_faults(table: pa.Table) -> Iterator[str]:
    """Look at the vectors of an embeddings table: unit length, a width as recorded, finite.

    Args:
        table: With ``error`` and ``image_embedding``, and what the file says of itself.
    """
    vectors, valid = embedding_matrix(table[EMBEDDING])
    dim = (table_about(table).get("encoder") or {}).get("dim")
    if vectors.shape[1] != dim:
        yield f"vectors have {vectors.shape[1]} numbers; the encoder on record has {dim}"
    rows = vectors[valid].astype(np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        yield f"{int((~finite).sum())} vectors hold NaN or an infinity"
    lengths = np.linalg.norm(rows[finite], axis=1)
    off = np.abs(lengths - 1) > UNIT_TOLERANCE
    if off.any():
        one = lengths[off][0]
        yield f"{int(off.sum())} vectors are not of unit length, one is {one:.3g}"
    unexplained = int((valid == table["error"].is_valid().to_numpy()).sum())
    if unexplained:
        yield f"{unexplained} rows have neither a vector nor a reason, or both"


def encoder_faults(encoders: Mapping[str, Json]) -> Iterator[str]:
    """Compare what tables of several shards say of their encoder.

    Args:
        encoders: By shard.
    """
    shards = list(encoders)
    differ = [shard for shard in shards if encoders[shard] != encoders[shards[0]]]
    if differ:
        yield (
            f"{differ[0]} was embedded with {encoders[differ[0]]}, {shards[0]} with "
            f"{encoders[shards[0]]}; {len(differ)} shard(s) differ"
        )


def quarantine_faults(table: pa.Table, most: float) -> Iterator[str]:
    """Compare the share of quarantined samples with a bound.

    Args:
        table: With a column ``error``.
        most: The share that may be quarantined, 0 to 1.
    """
    errors = table["error"].drop_null().to_pylist()
    share = len(errors) / max(table.num_rows, 1)
    if share > most:
        ((reason, count),) = Counter(errors).most_common(1)
        yield (
            f"{len(errors)} of {table.num_rows} samples are quarantined ({share:.1%}, "
            f"bound {most:.1%}), {count} of them for: {reason}"
        )


def decision_faults(table: pa.Table) -> Iterator[str]:
    """Look at a selection: kept samples have no reason against them, dropped ones have.

    Args:
        table: Of :data:`curation.tables.SELECTION`.
    """
    kept = table["kept"].to_numpy()
    against = pc.list_value_length(table["reasons"]).to_numpy() > 0
    if (kept & against).any():
        yield f"{int((kept & against).sum())} samples are kept with a reason against them"
    if (~kept & ~against).any():
        yield f"{int((~kept & ~against).sum())} samples are dropped without a reason"


def duplicate_faults(
    table: pa.Table,
    kept: Mapping[str, Collection[str]],
    min_similarities: Mapping[str, float],
) -> Iterator[str]:
    """Look at a shard's removed copies: each has a kept sample that is near enough.

    Args:
        table: Of :data:`curation.tables.DUPLICATES`.
        kept: The keys of the samples that are no removed copies, of each survivor's shard.
        min_similarities: Kind of duplicate to the lowest similarity that counts.
    """
    rows = table.to_pylist()
    lone = [r for r in rows if r["survivor_key"] not in kept[r["survivor_shard"]]]
    if lone:
        one = lone[0]
        yield (
            f"{len(lone)} removed copies have no kept sample in their place: {one['key']} "
            f"went for {one['survivor_key']} of {one['survivor_shard']}, which is not kept"
        )
    far = [
        r
        for r in rows
        if r["similarity"] < np.float32(min_similarities.get(r["kind"], np.inf))
    ]
    if far:
        one = far[0]
        yield (
            f"{len(far)} removed copies are too far from what is kept: {one['key']} is a "
            f"{one['kind']} copy at {one['similarity']:.4f}"
        )


def score_faults(table: pa.Table, classifiers: Mapping[str, Classifier]) -> Iterator[str]:
    """Look at a scores table: a finite value in its documented range, or null.

    Args:
        table: Of :data:`curation.tables.SCORES`.
        classifiers: By column.
    """
    for name, classifier in classifiers.items():
        if name not in table.column_names:
            yield f"there is no column {name}"
            continue
        values = table[name].drop_null().to_numpy()
        if not np.isfinite(values).all():
            yield f"{int((~np.isfinite(values)).sum())} values of {name} are not finite"
        low, high = classifier.score_range
        outside = (values < low - RANGE_TOLERANCE) | (values > high + RANGE_TOLERANCE)
        if outside.any():
            yield (
                f"{int(outside.sum())} values of {name} are outside of {low:g} to "
                f"{high:g}, one is {values[outside][0]:.4g}"
            )
