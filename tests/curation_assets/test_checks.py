"""Asset checks on a curated dataset, sound and tampered with."""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    SCORES,
    embedding_column,
    embedding_matrix,
    read_table,
    write_table,
)
from jobs.definitions import build_definitions
from jobs.instance import open_instance
from tests.conftest import Curated

SHARD = "train/00001"


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    with open_instance(curated.recipe) as opened:
        yield opened


def evaluate(
    curated: Curated, instance: dg.DagsterInstance
) -> dict[str, dg.AssetCheckEvaluation]:
    """Launch the checks by themselves."""
    definitions = build_definitions(curated.recipe)
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [key for check in definitions.asset_checks or [] for key in check.check_keys]
    checks = job.get_subset(asset_selection=set(), asset_check_selection=set(keys))
    done = checks.execute_in_process(instance=instance)
    assert done.success
    return {found.check_name: found for found in done.get_asset_check_evaluations()}


def test_what_a_run_made_passes_and_every_shard_was_looked_at(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    found = evaluate(curated, instance)
    assert set(found) == {"vectors_are_whole", "scores_are_in_range"}
    for evaluation in found.values():
        assert evaluation.passed, evaluation.description
        assert evaluation.metadata["shards"].value == 3


def test_a_tampered_vector_and_another_encoder_are_told(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    path = curated.artifacts.embeddings(SHARD)
    table = read_table(curated.output, path, EMBEDDINGS)
    vectors, valid = embedding_matrix(table[EMBEDDING])
    vectors = vectors.copy()
    vectors[np.flatnonzero(valid)[0]] = np.nan
    place = table.column_names.index(EMBEDDING)
    table = table.set_column(place, EMBEDDING, embedding_column(vectors, valid))
    encoder = {"model": "another", "dim": vectors.shape[1]}
    write_table(curated.output, path, EMBEDDINGS, table, fingerprint="any", encoder=encoder)
    found = evaluate(curated, instance)["vectors_are_whole"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert f"{SHARD}: 1 vectors hold NaN" in (found.description or "")


def test_scores_of_other_samples_and_out_of_range_are_warned_of(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    path = curated.artifacts.scores(SHARD)
    table = read_table(curated.output, path, SCORES).slice(1)
    sevens = pa.array([7.0] * table.num_rows, pa.float32())
    table = table.set_column(1, "sharpness_probe", sevens)
    write_table(curated.output, path, SCORES, table, fingerprint="any")
    found = evaluate(curated, instance)["scores_are_in_range"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "samples of the index" in (found.description or "")
    assert "outside of 0 to 1, one is 7" in (found.description or "")


def test_a_missing_table_is_told_by_its_shard(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    curated.output.delete(curated.artifacts.scores(SHARD))
    found = evaluate(curated, instance)["scores_are_in_range"]
    assert (found.description or "").startswith(f"{SHARD}: ")
