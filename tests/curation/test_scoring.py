"""Scores are joined to samples by key, tied to their encoder, and missing for a reason."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from curation.classifiers import Classifier, LinearProbe, TextAlignment
from curation.classifiers.base import score_all
from curation.classifiers.linear_probe import FORMAT, METADATA_KEY
from curation.errors import InputError, TableError
from curation.fingerprint import Json
from curation.scoring import check_encoders, encoder_of, score_embeddings
from curation.storage import LocalStorage
from curation.tables import (
    EMBEDDING,
    SCORES,
    TEXT_EMBEDDING,
    embedding_column,
    read_table,
    table_about,
    with_about,
    write_table,
)

DIM = 16
ENCODER: dict[str, Json] = {"model": "some_tower", "weights_sha256": "ab", "dim": DIM}
TEXT_ENCODER: dict[str, Json] = {"model": "a/b", "dim": DIM, "pairs_with": ["some_tower"]}


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, DIM))
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float16)


def embeddings(
    rows: np.ndarray, valid: list[bool] | None = None, column: str = EMBEDDING
) -> pa.Table:
    vectors = embedding_column(rows, np.array(valid or [True] * len(rows)))
    keys = [f"k{n}" for n in range(len(rows))]
    encoder = ENCODER if column == EMBEDDING else TEXT_ENCODER
    return with_about(pa.table({"key": keys, column: vectors}), encoder=encoder)


@pytest.fixture(scope="module")
def weights() -> list[np.ndarray]:
    return [np.random.default_rng(n).standard_normal(DIM) for n in (1, 2)]


@pytest.fixture
def probes(weights: list[np.ndarray], tmp_path: Path) -> dict[str, Classifier]:
    """Give two probes that were trained on the encoder, ``first`` and ``second``."""
    found: dict[str, Classifier] = {}
    for name, weight in zip(("first", "second"), weights, strict=True):
        file = tmp_path / f"{name}.safetensors"
        tensors = {"weight": weight.astype(np.float32), "bias": np.ones(1, np.float32)}
        about = {"format": FORMAT, "encoder": ENCODER}
        save_file(tensors, file, {METADATA_KEY: json.dumps(about)})
        found[name] = LinearProbe(weights=str(file))
    return found


def sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result


def test_every_sample_has_every_score_in_the_order_of_the_embeddings(
    probes: dict[str, Classifier], weights: list[np.ndarray]
) -> None:
    rows = unit_rows(5_000)
    table = score_embeddings(embeddings(rows), probes)
    assert table.column_names == ["key", "first", "second"]
    assert table["key"].to_pylist() == [f"k{n}" for n in range(5_000)]
    for name, weight in zip(probes, weights, strict=True):
        assert table[name].type == pa.float32()
        expected = sigmoid(rows.astype(float) @ weight + 1)
        np.testing.assert_allclose(table[name].to_numpy(), expected, rtol=0, atol=1e-5)


def test_several_chunks_and_slices_of_a_table_score_as_the_whole(
    probes: dict[str, Classifier],
) -> None:
    whole = embeddings(unit_rows(50))
    parts = pa.concat_tables([whole.slice(0, 20), whole.slice(20, 7), whole.slice(27)])
    scores = score_embeddings(whole, probes)
    assert score_embeddings(parts, probes).equals(scores)
    middle = score_embeddings(whole.slice(11, 9), probes)
    assert middle["first"].to_pylist() == pytest.approx(
        scores["first"].to_pylist()[11:20], abs=1e-6
    )


def test_many_classifiers_in_one_pass_score_as_each_alone(
    probes: dict[str, Classifier],
) -> None:
    rows, texts = unit_rows(3_000), unit_rows(3_000, seed=3)
    heads = [*probes.values(), TextAlignment()]
    for head, together in zip(heads, score_all(heads, rows, texts), strict=True):
        alone = head.score(rows, texts if head.reads_captions else None)
        np.testing.assert_array_equal(together, alone)


def test_bad_rows_have_no_scores_and_are_counted_by_reason(
    probes: dict[str, Classifier], caplog: pytest.LogCaptureFixture
) -> None:
    rows = unit_rows(8)
    good = score_embeddings(embeddings(rows), probes)
    rows[1, 4], rows[2, 0], rows[5] = np.nan, np.inf, 0
    with caplog.at_level(logging.WARNING):
        table = score_embeddings(
            embeddings(rows, [True, True, True, False, True, True, False, True]), probes
        )
    without = {"no vector": 2, "zero vector": 1, "not finite": 2, "no caption": 0}
    assert table_about(table)["unscored"] == without
    assert "rows without scores" in caplog.text
    for name in probes:
        found, expected = table[name].to_pylist(), good[name].to_pylist()
        assert [n for n, value in enumerate(found) if value is None] == [1, 2, 3, 5, 6]
        assert [found[n] for n in (0, 4, 7)] == [expected[n] for n in (0, 4, 7)]


def test_rows_that_were_not_normalised_are_an_error(probes: dict[str, Classifier]) -> None:
    rows = unit_rows(5)
    rows[3] *= 21
    with pytest.raises(InputError, match="row 3 has length 21"):
        score_embeddings(embeddings(rows), probes)


def test_no_samples_and_no_classifiers_are_fine(probes: dict[str, Classifier]) -> None:
    nothing = score_embeddings(embeddings(unit_rows(0)), probes)
    assert (nothing.num_rows, nothing.num_columns) == (0, 3)
    assert score_embeddings(embeddings(unit_rows(3)), {}).column_names == ["key"]


def test_the_table_says_what_made_it_and_is_a_table_of_scores(
    probes: dict[str, Classifier], tmp_path: Path
) -> None:
    table = score_embeddings(embeddings(unit_rows(3)), probes)
    about = table_about(table)
    assert about["encoder"] == ENCODER
    assert about["classifiers"]["first"] == {
        "type": "linear_probe",
        "fingerprint": probes["first"].fingerprint(),
        "score_range": [0.0, 1.0],
        "higher_is_better": True,
        "trust_encoder": False,
    }
    storage = LocalStorage(tmp_path)
    write_table(storage, "s.parquet", SCORES, table, fingerprint="f")
    read = read_table(storage, "s.parquet", SCORES)
    assert read.to_pydict() == table.to_pydict()
    assert table_about(read)["classifiers"] == about["classifiers"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), DIM),
        pa.list_(pa.float16()),
    ],
    ids=str,
)
def test_vectors_of_another_program_are_scored_by_who_trusts_them(
    kind: pa.DataType, probes: dict[str, Classifier]
) -> None:
    rows = unit_rows(5)
    lists = [row.tolist() for row in rows.astype(np.float64)]
    lists[3] = None
    values = pa.array(lists, pa.large_list(pa.float64())).cast(kind)
    table = pa.table({"key": [f"k{n}" for n in range(5)], EMBEDDING: values})
    with pytest.raises(TableError, match="trust_encoder: true"):
        score_embeddings(table, probes)
    trusting = {name: replace(probe, trust_encoder=True) for name, probe in probes.items()}
    found = score_embeddings(table, trusting)
    valid = [True, True, True, False, True]
    expected = score_embeddings(embeddings(rows, valid), probes)
    assert found.to_pydict() == expected.to_pydict()
    assert table_about(found)["encoder"] == {"dim": DIM}


def test_vectors_of_another_width_or_of_several_are_refused(
    probes: dict[str, Classifier],
) -> None:
    trusting = {name: replace(probe, trust_encoder=True) for name, probe in probes.items()}
    narrow = pa.table({"key": ["a"], EMBEDDING: [[1.0, 0.0]]})
    with pytest.raises(InputError, match=f"rows of {DIM} numbers; .* have 2"):
        score_embeddings(narrow, trusting)
    ragged = pa.table({"key": ["a", "b"], EMBEDDING: [[1.0, 0.0], [1.0]]})
    with pytest.raises(TableError, match="with 1 or 2 of them"):
        score_embeddings(ragged, trusting)


def test_a_probe_of_another_encoder_is_refused_and_trust_is_recorded(
    probes: dict[str, Classifier],
) -> None:
    other = ENCODER | {"weights_sha256": "cd"}
    table = with_about(embeddings(unit_rows(3)), encoder=other)
    with pytest.raises(InputError, match=r"classifier first: .*weights_sha256 is cd"):
        score_embeddings(table, probes)
    with pytest.raises(InputError, match=r"classifier first: .*weights_sha256 is cd"):
        check_encoders(probes, other)
    check_encoders(probes, ENCODER)
    weights = str(probes["first"].weights)  # type: ignore[attr-defined]
    trusting = {"first": LinearProbe(weights=weights, trust_encoder=True)}
    about = table_about(score_embeddings(table, trusting))
    assert about["classifiers"]["first"]["trust_encoder"] is True
    assert about["encoder"] == other


def test_embeddings_of_another_width_are_refused(probes: dict[str, Classifier]) -> None:
    narrow = embeddings(unit_rows(3)[:, :8])
    with pytest.raises(InputError, match=r"takes rows of 16 numbers; found 8"):
        score_embeddings(narrow, probes)


def test_a_table_that_does_not_say_its_encoder_is_refused(
    probes: dict[str, Classifier],
) -> None:
    table = embeddings(unit_rows(3)).replace_schema_metadata(None)
    with pytest.raises(TableError, match="does not say which encoder"):
        score_embeddings(table, probes)
    with pytest.raises(TableError, match="does not say which encoder"):
        encoder_of(table)
    told = score_embeddings(table, probes, encoder=ENCODER)
    assert table_about(told)["encoder"] == ENCODER


def test_captions_are_joined_by_key_not_by_position() -> None:
    rows, texts = unit_rows(40), unit_rows(40, seed=1)
    captions = embeddings(texts, column=TEXT_EMBEDDING)
    order = np.random.default_rng(2).permutation(40)
    found = score_embeddings(
        embeddings(rows), {"clip": TextAlignment()}, captions=captions.take(order)
    )
    expected = (rows.astype(float) * texts.astype(float)).sum(axis=1)
    np.testing.assert_allclose(found["clip"].to_numpy(), expected, rtol=0, atol=1e-5)


def test_a_sample_without_a_caption_lacks_only_the_scores_that_need_one(
    probes: dict[str, Classifier],
) -> None:
    valid = [True, False, True, False]
    captions = embeddings(unit_rows(4, seed=1), valid, TEXT_EMBEDDING)
    table = score_embeddings(
        embeddings(unit_rows(4), [True, True, False, True]),
        probes | {"clip": TextAlignment()},
        captions=captions,
    )
    assert [value is None for value in table["clip"].to_pylist()] == [
        False,
        True,
        True,
        True,
    ]
    assert table["first"].null_count == 1
    unscored = table_about(table)["unscored"]
    assert unscored == {"no vector": 1, "zero vector": 0, "not finite": 0, "no caption": 2}


def test_captions_that_are_needed_and_missing_are_an_error() -> None:
    with pytest.raises(InputError, match=r"classifiers clip: .*embed_captions"):
        score_embeddings(embeddings(unit_rows(2)), {"clip": TextAlignment()})


def test_captions_of_another_shard_are_refused() -> None:
    captions = embeddings(unit_rows(5), column=TEXT_EMBEDDING).slice(2)
    with pytest.raises(TableError, match="2 of 5 samples are not among the captions'"):
        score_embeddings(
            embeddings(unit_rows(5)), {"clip": TextAlignment()}, captions=captions
        )


def test_captions_of_another_model_are_refused() -> None:
    captions = with_about(
        embeddings(unit_rows(2), column=TEXT_EMBEDDING),
        encoder=TEXT_ENCODER | {"pairs_with": ["other"]},
    )
    with pytest.raises(InputError, match=r"classifier clip: the images were embedded with"):
        score_embeddings(
            embeddings(unit_rows(2)), {"clip": TextAlignment()}, captions=captions
        )
