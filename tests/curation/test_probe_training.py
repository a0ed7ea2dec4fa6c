"""A probe is scikit-learn's, its metrics are of unseen examples, its file says them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from safetensors import safe_open
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from curation.classifiers import LinearProbe
from curation.errors import InputError, TableError
from curation.fingerprint import Json
from curation.probe_training import (
    Examples,
    Labels,
    ProbeSettings,
    find_examples,
    probe_warning,
    read_labels,
    save_probe,
    train_probe,
)
from curation.tables import EMBEDDING, embedding_column, with_about

DIM = 12
ENCODER: dict[str, Json] = {"model": "some_tower", "weights_sha256": "ab", "dim": DIM}


def embeddings(rows: np.ndarray, valid: Sequence[bool] | None = None) -> pa.Table:
    vectors = embedding_column(
        rows.astype(np.float16), np.array(valid or [True] * len(rows))
    )
    keys = [f"k{n}" for n in range(len(rows))]
    return with_about(pa.table({"key": keys, EMBEDDING: vectors}), encoder=ENCODER)


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, DIM))
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def examples(
    count: int = 300, noise: float = 0.2, seed: int = 0, share: float = 0.3
) -> Examples:
    """Make examples that one direction tells apart, but for some noise."""
    rows = unit_rows(count, seed).astype(np.float16).astype(np.float32)
    told = rows[:, 0] + noise * np.random.default_rng(seed + 1).standard_normal(count)
    labels = told > np.quantile(told, 1 - share)
    return Examples(rows, labels, tuple(("s", f"k{n}") for n in range(count)), 0)


def test_examples_are_found_by_shard_and_key_whatever_the_order() -> None:
    first, second = unit_rows(5, 1), unit_rows(4, 2)
    tables = {"a/0": embeddings(first), "b/1": embeddings(second), "unlabelled": None}
    labels = {"b/1": {"k3": True}, "a/0": {"k4": False, "k0": True}}
    found = find_examples(tables, labels)  # type: ignore[arg-type]
    assert found.names == (("a/0", "k0"), ("a/0", "k4"), ("b/1", "k3"))
    assert found.labels.tolist() == [True, False, True]
    expected = np.stack([first[0], first[4], second[3]]).astype(np.float16)
    np.testing.assert_array_equal(found.vectors, expected)
    assert found.vectors.dtype == np.float32
    assert found.num_without_vector == 0


def test_samples_without_a_usable_vector_are_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = unit_rows(6)
    rows[1, 3], rows[2, 0], rows[3] = np.nan, np.inf, 0
    table = embeddings(rows, [True, True, True, True, False, True])
    found = find_examples({"s": table}, {"s": {f"k{n}": True for n in range(6)}})
    assert [key for _, key in found.names] == ["k0", "k5"]
    assert found.num_without_vector == 4
    assert "4 labelled samples have no vector" in caplog.text
    assert find_examples({"s": table}, {"s": {"k1": True}}).vectors.shape == (0, DIM)


def test_labels_of_what_is_not_there_are_refused() -> None:
    tables = {"s": embeddings(unit_rows(3))}
    with pytest.raises(InputError, match="shard 't', which has no embeddings"):
        find_examples(tables, {"t": {"k0": True}})
    with pytest.raises(InputError, match="labels name 'k7', which shard 's' has not"):
        find_examples(tables, {"s": {"k7": True}})
    with pytest.raises(InputError, match="there are no labels"):
        find_examples(tables, {})


def test_shards_of_two_encoders_do_not_mix() -> None:
    labels: Labels = {"s": {"k0": True}, "t": {"k0": False}}
    table = embeddings(unit_rows(3))
    other = with_about(table, encoder=ENCODER | {"weights_sha256": "cd"})
    with pytest.raises(TableError, match=r"'s' and 't' were embedded by different enc"):
        find_examples({"s": table, "t": other}, labels)
    narrow = embeddings(unit_rows(3)[:, :7]).replace_schema_metadata(table.schema.metadata)
    with pytest.raises(TableError, match="different encoders"):
        find_examples({"s": table, "t": narrow}, labels)


def balanced(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)


def test_the_direction_and_the_metrics_are_scikit_learns() -> None:
    given = examples()
    settings = ProbeSettings(strengths=(10.0,), folds=4, seed=3)
    probe = train_probe(given, ENCODER, settings)
    model = balanced(10.0).fit(given.vectors, given.labels)
    cosine = probe.weight @ model.coef_[0] / np.linalg.norm(model.coef_[0])
    assert cosine == pytest.approx(np.linalg.norm(probe.weight), rel=1e-5)
    folds = StratifiedKFold(4, shuffle=True, random_state=3)
    logits = cross_val_predict(
        balanced(10.0), given.vectors, given.labels, cv=folds, method="decision_function"
    )
    assert probe.metrics["roc_auc"] == pytest.approx(roc_auc_score(given.labels, logits))
    assert (probe.metrics["num_positive"], probe.metrics["num_negative"]) == (90, 210)
    assert probe.metrics["strength"] == 10.0
    assert 0.8 < probe.metrics["balanced_accuracy"] < 1
    assert 0 < probe.metrics["brier"] < 0.2


@pytest.mark.parametrize("noise", [0.4, 0])
def test_probabilities_are_calibrated_as_scikit_learn_does(noise: float) -> None:
    given = examples(noise=noise, share=0.5)
    probe = train_probe(given, ENCODER, ProbeSettings(strengths=(1.0,)))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    theirs = CalibratedClassifierCV(balanced(1.0), cv=folds, ensemble=False)
    theirs.fit(given.vectors, given.labels)
    expected = theirs.predict_proba(given.vectors)[:, 1]
    found = 1 / (1 + np.exp(-(given.vectors @ probe.weight + probe.bias)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_a_score_is_the_share_of_samples_with_the_label_if_half_have_it() -> None:
    probe = train_probe(examples(2000, noise=0.5, share=0.2), ENCODER)
    fresh = examples(20_000, noise=0.5, seed=7, share=0.2)
    scores = 1 / (1 + np.exp(-(fresh.vectors @ probe.weight + probe.bias)))
    weights = np.where(
        fresh.labels, 0.5 / fresh.labels.mean(), 0.5 / (~fresh.labels).mean()
    )
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (scores >= low) & (scores < low + 0.2)
        share = np.average(fresh.labels[inside], weights=weights[inside])
        assert share == pytest.approx(scores[inside].mean(), abs=0.06)


def test_the_strength_is_the_one_with_the_lowest_loss_on_unseen_examples() -> None:
    noisy = train_probe(examples(60, noise=3), ENCODER).metrics["strength"]
    clean = train_probe(examples(600, noise=0.02), ENCODER).metrics["strength"]
    assert noisy < clean


def test_labels_that_mean_nothing_give_an_honest_metric() -> None:
    probe = train_probe(examples(400, noise=1000), ENCODER)
    assert 0.35 < probe.metrics["roc_auc"] < 0.65


def test_the_same_examples_give_the_same_file(tmp_path: Path) -> None:
    files = [tmp_path / "one.safetensors", tmp_path / "new/folder/two.safetensors"]
    for file in files:
        save_probe(train_probe(examples(), ENCODER), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_file_scores_as_the_probe_and_says_how_it_came_to_be(tmp_path: Path) -> None:
    given = examples()
    probe = train_probe(given, ENCODER)
    save_probe(probe, tmp_path / "probe.safetensors")
    classifier = LinearProbe(weights=str(tmp_path / "probe.safetensors"))
    classifier.check_encoder(ENCODER)
    found = classifier.score(given.vectors)
    expected = 1 / (1 + np.exp(-(given.vectors @ probe.weight + probe.bias)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert roc_auc_score(given.labels, found) > 0.9
    record = classifier.record
    assert record["encoder"] == ENCODER
    assert record["metrics"] == probe.metrics
    assert record["settings"]["folds"] == 5
    positive = [key for (_, key), y in zip(given.names, given.labels, strict=True) if y]
    assert record["keys"]["positive"] == {"s": positive}
    assert len(record["keys"]["negative"]["s"]) == 210
    with safe_open(tmp_path / "probe.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["curation"])["format"] == "linear probe 1"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.98, 1.0])
def test_too_few_examples_of_a_class_are_refused(share: float) -> None:
    given = examples(100)
    labels = np.arange(100) < 100 * share
    few = Examples(given.vectors, labels, given.names, 0)
    count = round(100 * share)
    with pytest.raises(InputError, match=f"needs 10 .*; found {count} and {100 - count}"):
        train_probe(few, ENCODER)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strengths": ()}, "strengths"),
        ({"strengths": (0.0,)}, "strengths"),
        ({"folds": 1}, "folds"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ProbeSettings(**settings)


ROWS = [("a/00000", "000001", True), ("a/00000", "x.y", False), ("b", "000001", False)]
EXPECTED = {"a/00000": {"000001": True, "x.y": False}, "b": {"000001": False}}


@pytest.mark.parametrize("words", [("true", "false"), ("1", "0"), ("True", "FALSE")])
def test_labels_are_read_from_csv_and_keys_stay_text(
    words: tuple[str, str], tmp_path: Path
) -> None:
    lines = [f"{key},ignored,{words[0 if y else 1]},{shard}" for shard, key, y in ROWS]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["key,more,label,shard", *lines]))
    assert read_labels(file) == EXPECTED


@pytest.mark.parametrize("kind", [pl.Boolean, pl.Int64, pl.Float32])
def test_labels_are_read_from_parquet(kind: type[pl.DataType], tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, ["shard", "key", "label"], orient="row")
    frame.with_columns(pl.col("label").cast(kind)).write_parquet(tmp_path / "l.parquet")
    assert read_labels(tmp_path / "l.parquet") == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read"),
        ("key,label\n1,1", "expected columns shard, key and label; found key, label"),
        ("shard,key,label\ns,k,maybe", "s, k: 'maybe' is no label; use 1 or 0"),
        ("shard,key,label\ns,k,", "s, k: None is no label"),
        ("shard,key,label\ns,,1", "a row names no sample"),
        ("shard,key,label\ns,k,1\ns,k,0", "s, k is labelled both ways"),
    ],
)
def test_a_file_of_labels_with_a_mistake_is_refused(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.csv")


def test_what_is_no_file_of_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv: there is no such file"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.parquet").write_text("shard,key,label")
    with pytest.raises(InputError, match=r"labels\.parquet: labels that can't be read"):
        read_labels(tmp_path / "labels.parquet")
    (tmp_path / "labels.csv").write_bytes(b"shard,key,label\ns,\xff\xfe,1\n")
    with pytest.raises(InputError, match=r"labels\.csv: labels that can't be read"):
        read_labels(tmp_path / "labels.csv")


def test_a_label_that_is_there_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("shard,key,label\ns,k,1\ns,k,true\n")
    assert read_labels(tmp_path / "labels.csv") == {"s": {"k": True}}


@pytest.mark.parametrize(
    ("area", "count", "expected"),
    [
        (0.585, 50, "chance"),
        (0.5, 100_000, "chance"),
        (0.585, 5000, "weakly"),
        (0.79, 500, "weakly"),
        (0.85, 50, None),
        (1.0, 10, None),
        (0.7, 12, "chance"),
        (0.2, 500, "chance"),
    ],
)
def test_a_probe_that_tells_little_is_called_so(
    area: float, count: int, expected: str | None
) -> None:
    metrics = {"roc_auc": area, "num_positive": count, "num_negative": count}
    found = probe_warning(metrics)
    assert (found is None) if expected is None else (expected in (found or ""))
