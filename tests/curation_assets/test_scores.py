"""Scores of a run against the classifier's formula."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    SCORES,
    embedding_matrix,
    read_table,
)
from tests.conftest import Curated


@pytest.mark.parametrize("shard", ["00000", "train/00002"])
def test_scores_are_those_of_the_probe_and_null_without_a_vector(
    curated: Curated, shard: str
) -> None:
    facts = read_table(curated.output, curated.artifacts.embeddings(shard), EMBEDDINGS)
    scores = read_table(curated.output, curated.artifacts.scores(shard), SCORES)
    rows, valid = embedding_matrix(facts[EMBEDDING])
    probe = load_file(curated.folder / "probe.safetensors")
    logits = rows.astype(np.float64) @ probe["weight"] + probe["bias"][0]
    found = scores["sharpness_probe"].to_numpy()
    assert scores["key"].to_pylist() == facts["key"].to_pylist()
    np.testing.assert_allclose(found[valid], (1 / (1 + np.exp(-logits)))[valid], atol=1e-5)
    assert np.isnan(found[~valid]).all()
