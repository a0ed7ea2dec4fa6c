"""Training a probe on what a recipe embedded."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import balanced_accuracy_score

from curation.errors import InputError
from jobs.probe import balanced_accuracy, find_labelled, train
from tests.conftest import Curated


def labels(curated: Curated) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    for row in pq.read_table(curated.folder / "raw" / "planted.parquet").to_pylist():
        if row["sharpness_label"]:
            sharp = row["sharpness_label"] == "sharp"
            found.setdefault(row["shard"], {})[row["key"]] = sharp
    return found


def test_a_probe_learns_what_it_is_shown(curated: Curated) -> None:
    probe = train(find_labelled(curated.recipe, labels(curated)))
    examples = find_labelled(curated.recipe, labels(curated)).examples
    scores = 1 / (1 + np.exp(-(examples.vectors @ probe.weight + probe.bias)))
    assert balanced_accuracy(scores, examples.labels.tolist()) > 0.9
    assert probe.encoder["model"] == "tf_efficientnet_lite0"


def test_a_shard_without_embeddings_is_named(curated: Curated) -> None:
    with pytest.raises(InputError, match="'absent', which has no embeddings"):
        find_labelled(curated.recipe, {"absent": {"key": True}})


def test_no_labels_are_refused(curated: Curated) -> None:
    with pytest.raises(InputError, match="no labels"):
        find_labelled(curated.recipe, {})


def test_balanced_accuracy_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random(50), rng.random(50) < 0.2
    expected = balanced_accuracy_score(truth, scores >= 0.5)
    assert balanced_accuracy(scores, truth.tolist()) == pytest.approx(expected)
