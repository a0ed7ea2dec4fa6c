"""Faults that are put into tables are found, and none in sound ones."""

import numpy as np
import pyarrow as pa
import pytest

from curation.classifiers import make_classifiers
from curation.table_checks import (
    decision_faults,
    duplicate_faults,
    encoder_faults,
    quarantine_faults,
    row_faults,
    score_faults,
    vector_faults,
)
from curation.tables import EMBEDDING, embedding_column, with_about

DIM = 4


def embeddings(vectors: np.ndarray, errors: list[str | None], dim: int = DIM) -> pa.Table:
    valid = np.array([error is None for error in errors])
    table = pa.table(
        {
            "key": [f"{row}" for row in range(len(errors))],
            "error": pa.array(errors, pa.string()),
            EMBEDDING: embedding_column(vectors, valid),
        }
    )
    return with_about(table, encoder={"model": "any", "dim": dim})


def test_sound_tables_have_no_faults() -> None:
    table = embeddings(np.eye(3, DIM), [None, None, "not decodable"])
    assert [*vector_faults(table), *row_faults(["0", "1", "2"], table)] == []
    assert [*encoder_faults({"a": {"dim": 4}, "b": {"dim": 4}}), *encoder_faults({})] == []


def test_other_rows_than_the_index_has_are_told() -> None:
    table = pa.table({"key": ["a", "c", "b"]})
    (swapped,) = row_faults(["a", "b", "c"], table)
    assert swapped == "2 keys are not the index's, the first in row 1: 'c', not 'b'"
    (fewer,) = row_faults(["a", "b"], table)
    assert fewer == "3 rows for 2 samples of the index"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([np.nan, 0, 0, 0], "1 vectors hold NaN or an infinity"),
        ([np.inf, 0, 0, 0], "1 vectors hold NaN or an infinity"),
        ([2, 0, 0, 0], "1 vectors are not of unit length, one is 2"),
        ([0, 0, 0, 0], "1 vectors are not of unit length, one is 0"),
    ],
)
def test_a_bad_vector_is_told(row: list[float], told: str) -> None:
    vectors = np.stack([np.eye(1, DIM)[0], row])
    assert list(vector_faults(embeddings(vectors, [None, None]))) == [told]


def test_another_width_than_the_encoders_is_told() -> None:
    (told,) = vector_faults(embeddings(np.eye(2, DIM), [None, None], dim=768))
    assert told == "vectors have 4 numbers; the encoder on record has 768"


def test_a_row_without_vector_and_reason_is_told() -> None:
    table = embeddings(np.eye(2, DIM), [None, "not decodable"])
    silent = table.set_column(1, "error", pa.array([None, None], pa.string()))
    assert list(vector_faults(silent)) == [
        "1 rows have neither a vector nor a reason, or both"
    ]


def test_two_encoders_are_told_with_the_shards() -> None:
    (told,) = encoder_faults(
        {"a": {"model": "x"}, "b": {"model": "x"}, "c": {"model": "y"}}
    )
    assert told.startswith("c was embedded with {'model': 'y'}, a with {'model': 'x'}")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0.0, 1.0, None], []),
        ([0.5, 1.5, None], ["1 values of nsfw are outside of 0 to 1, one is 1.5"]),
        ([0.5, float("nan"), None], ["1 values of nsfw are not finite"]),
    ],
)
def test_scores_out_of_range_are_told(values: list[float | None], told: list[str]) -> None:
    table = pa.table(
        {"key": ["a", "b", "c"], "nsfw": pa.array(values, pa.float32(), from_pandas=False)}
    )
    assert list(score_faults(table, make_classifiers({"nsfw": {}}))) == told


def test_a_missing_score_is_told() -> None:
    table = pa.table({"key": ["a"]})
    told = list(score_faults(table, make_classifiers({"nsfw": {}})))
    assert told == ["there is no column nsfw"]


def test_more_quarantined_samples_than_the_bound_are_told_with_the_usual_reason() -> None:
    errors = ["empty", "no image", "no image", *[None] * 7]
    table = pa.table({"error": pa.array(errors, pa.string())})
    assert list(quarantine_faults(table, 0.3)) == []
    (told,) = quarantine_faults(table, 0.29)
    assert told == (
        "3 of 10 samples are quarantined (30.0%, bound 29.0%), 2 of them for: no image"
    )
    assert list(quarantine_faults(table.slice(0, 0), 0)) == []


def test_copies_without_a_kept_twin_and_ones_too_far_are_told() -> None:
    table = pa.table(
        {
            "key": ["a", "b", "c"],
            "survivor_shard": ["s", "s", "t"],
            "survivor_key": ["k", "gone", "k"],
            "kind": ["exact", "semantic", "perceptual"],
            "similarity": [1.0, 0.97, 0.8],
        }
    )
    kept = {"s": {"k", "gone"}, "t": {"k"}}
    bounds = {"exact": 1.0, "semantic": 0.96, "perceptual": 0.8}
    assert list(duplicate_faults(table, kept, bounds)) == []
    assert list(duplicate_faults(table, kept | {"s": {"k"}}, bounds)) == [
        "1 removed copies have no kept sample in their place: b went for gone of s, which "
        "is not kept"
    ]
    assert list(duplicate_faults(table, kept, {"exact": 1.0, "semantic": 0.98})) == [
        "2 removed copies are too far from what is kept: b is a semantic copy at 0.9700"
    ]


def test_decisions_and_reasons_that_contradict_each_other_are_told() -> None:
    reasons = pa.array([[], ["small"], [], ["small"]], pa.list_(pa.string()))
    sound = pa.table({"kept": [True, False, True, False], "reasons": reasons})
    assert list(decision_faults(sound)) == []
    odd = pa.table({"kept": [True, True, False, False], "reasons": reasons})
    assert list(decision_faults(odd)) == [
        "1 samples are kept with a reason against them",
        "1 samples are dropped without a reason",
    ]
