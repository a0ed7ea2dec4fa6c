"""Step: embeddings to scores, every classifier in one read of the vectors.

What is decided by a score belongs in ``selection.py``: scores are kept whatever comes of
them, so that another threshold needs no model.

**Bad rows.** A sample without a vector has no score, and so has one whose vector is zero
or holds NaN or an infinity: null, counted by reason under ``unscored``. Rows of any other
length than 1 are an error: no row alone goes wrong like that, so the table was made
without normalising, and scores of it would look right and mean nothing.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.classifiers.base import Classifier, score_all
from curation.errors import InputError, TableError
from curation.fingerprint import Json
from curation.tables import (
    EMBEDDING,
    TEXT_EMBEDDING,
    embedding_matrix,
    table_about,
    with_about,
)

log = logging.getLogger(__name__)


def score_embeddings(
    embeddings: pa.Table,
    classifiers: Mapping[str, Classifier],
    *,
    encoder: Mapping[str, Json] | None = None,
    captions: pa.Table | None = None,
) -> pa.Table:
    """Score the samples of one shard.

    Args:
        embeddings: ``key`` and ``image_embedding`` of the embeddings table, or of another
            program's with lists of floats.
        classifiers: By column name.
        encoder: What made the embeddings; by default what the table says of itself. A
            table that says nothing is scored by classifiers that trust any encoder, if
            its vectors are as wide as theirs.
        captions: The shard's caption embeddings, for classifiers that read them.

    Returns:
        A table of :data:`curation.tables.SCORES`: ``key`` and one float32 column per
        classifier, rows as in ``embeddings``. :func:`curation.tables.table_about` gives
        what is to be remembered with it: ``encoder``, ``classifiers`` with what each is,
        and ``unscored``, the number of rows without scores by reason; one without a
        usable caption lacks only the scores that need it.

    Raises:
        InputError: A classifier was made for another encoder, or rows are not of unit
            length, or captions are needed and there are none.
        TableError: The table does not say what made it, or has lists of several lengths;
            or the captions' table is of other samples.
    """
    vectors, valid = _vectors(embeddings[EMBEDDING])
    encoder = encoder or _known_or_trusted(embeddings, vectors.shape[1], classifiers)
    for column, classifier in classifiers.items():
        classifier.check_encoder(encoder, column)
    texts = _caption_matrix(embeddings, encoder, classifiers, captions)
    found = score_all(list(classifiers.values()), vectors, texts)
    columns = {
        name: pa.array(scores, pa.float32(), mask=np.isnan(scores))
        for name, scores in zip(classifiers, found, strict=True)
    }
    unscored = _unscored(vectors, valid, found)
    if unscored["zero vector"] or unscored["not finite"]:
        log.warning("rows without scores: %s", unscored)
    table = pa.table({"key": embeddings["key"]} | columns)
    return with_about(table, unscored=unscored, **scores_about(classifiers, encoder))


def check_encoders(
    classifiers: Mapping[str, Classifier],
    encoder: Mapping[str, Json],
    texts: Mapping[str, Json] | None = None,
) -> None:
    """Refuse, before anything is embedded, classifiers made for another encoder.

    Args:
        classifiers: By column name.
        encoder: As much as is known of what will embed the images; what is not known yet,
            such as the hash of weights that are to be fetched, is not held against it.
        texts: Likewise of what will embed captions, if anything will.

    Raises:
        InputError: One was, and does not trust this encoder; or it reads captions, and
            nothing embeds them.
    """
    for column, classifier in classifiers.items():
        unknown = {**(classifier.needs.encoder or {}), **encoder}
        classifier.check_encoder(unknown, column)
        if not classifier.reads_captions:
            continue
        if texts is None:
            raise InputError(
                f"classifier {column}: it compares images with captions, which nothing "
                "embeds; add text_encoder to the recipe"
            )
        classifier.check_caption_encoder(encoder, texts, column)


def scores_about(
    classifiers: Mapping[str, Classifier], encoder: Mapping[str, Json]
) -> dict[str, Any]:
    """Say what scores are of and by, to be remembered with them."""
    return {
        "encoder": dict(encoder),
        "classifiers": {
            column: {
                "type": classifier.name,
                "fingerprint": classifier.fingerprint(),
                "score_range": list(classifier.score_range),
                "higher_is_better": classifier.higher_is_better,
                "trust_encoder": classifier.trust_encoder,
            }
            for column, classifier in classifiers.items()
        },
    }


def encoder_of(table: pa.Table) -> dict[str, Json]:
    """Give what a table of vectors says of the encoder that made them.

    Raises:
        TableError: It says nothing.
    """
    encoder = table_about(table).get("encoder")
    if not isinstance(encoder, dict):
        raise TableError(
            "the table of embeddings does not say which encoder made them; pass what "
            "Embedder.encoder() gives, or write tables with encoder=…, or, if you know "
            "that they are the classifiers' encoder's, set their trust_encoder: true"
        )
    return encoder


def _vectors(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Read vectors as we store them, or as lists of floats: NeMo Curator's are float32."""
    kind = column.type
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in kinds):
        return embedding_matrix(column)
    known = column.combine_chunks().drop_null()
    lengths = np.unique(pc.list_value_length(known).to_numpy(zero_copy_only=False))
    if len(lengths) > 1 or not pa.types.is_floating(kind.value_type):
        raise TableError(
            f"vectors are lists of floats, as many in every row; found {kind} with "
            f"{' or '.join(map(str, lengths[:4]))} of them: embed all images with one model"
        )
    valid = column.is_valid().to_numpy()
    dim = int(lengths[0]) if len(lengths) else 0
    rows = np.zeros((len(column), dim), np.float16)
    numbers = known.flatten().to_numpy(zero_copy_only=False)  # NaN where null
    rows[valid] = numbers.reshape(len(known), dim)
    return rows, valid


def _known_or_trusted(
    table: pa.Table, dim: int, classifiers: Mapping[str, Classifier]
) -> dict[str, Json]:
    """Give what a table says of its encoder; the width alone where all trust it."""
    about = table_about(table).get("encoder")
    trusted = classifiers and all(one.trust_encoder for one in classifiers.values())
    if not isinstance(about, dict) and trusted:
        return {"dim": dim}
    return encoder_of(table)


def _caption_matrix(
    embeddings: pa.Table,
    encoder: Mapping[str, Json],
    classifiers: Mapping[str, Classifier],
    captions: pa.Table | None,
) -> np.ndarray | None:
    """Give the captions' vectors in the order of the embeddings, joined by key."""
    readers = {name: c for name, c in classifiers.items() if c.reads_captions}
    if not readers:
        return None
    if captions is None:
        raise InputError(
            f"classifiers {', '.join(readers)}: they compare images with captions, and "
            "the captions' embeddings are missing; make them with embed_captions"
        )
    for name, classifier in readers.items():
        classifier.check_caption_encoder(encoder, encoder_of(captions), name)
    rows = pc.index_in(embeddings["key"], captions["key"])
    if rows.null_count:
        raise TableError(
            f"{rows.null_count} of {len(rows)} samples are not among the captions' "
            "embeddings; those were made of another shard, make them again"
        )
    vectors, _ = embedding_matrix(captions[TEXT_EMBEDDING].take(rows))
    return vectors


def _unscored(
    vectors: np.ndarray, valid: np.ndarray, found: Sequence[np.ndarray]
) -> dict[str, int]:
    """Count the rows without scores; only those without are looked at again."""
    without = np.zeros(len(valid), bool)
    for scores in found:
        without |= np.isnan(scores)
    suspects = vectors[without & valid]
    finite, zero = np.isfinite(suspects).all(axis=1), ~suspects.any(axis=1)
    return {
        "no vector": int((~valid).sum()),
        "zero vector": int(zero.sum()),
        "not finite": int((~finite).sum()),
        "no caption": int((finite & ~zero).sum()),
    }
