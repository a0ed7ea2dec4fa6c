"""Asset checks on a curated dataset, sound and tampered with."""

import dagster as dg
import numpy as np
import pyarrow as pa

from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    SCORES,
    SELECTION,
    embedding_column,
    embedding_matrix,
    read_table,
    write_table,
)
from curation_assets.checks import CHECKS
from curation_assets.parity_check import PARITY
from curation_assets.partitions import SHARDS
from jobs.curate import curate
from jobs.definitions import build_definitions
from resources.progress import LineProgress
from tests.conftest import Curated

SHARD = "train/00001"


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
    assert set(found) == {*(check.name for check in CHECKS), PARITY.name}
    for evaluation in found.values():
        assert evaluation.passed, evaluation.description
        if evaluation.check_name != PARITY.name:  # which looks at one shard alone
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


def test_many_quarantined_samples_are_warned_of_with_the_reason(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    text = curated.recipe_file.read_text()
    curated.recipe_file.write_text(f"{text}checks: {{max_quarantined: 0.01}}\n")
    found = evaluate(curated, instance)["few_are_quarantined"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "bound 1.0%" in (found.description or "")
    assert "--retry-quarantined" in (found.description or "")


def test_scores_that_lie_elsewhere_are_warned_of(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    path = curated.artifacts.scores(SHARD)
    table = read_table(curated.output, path, SCORES)
    moved = pa.array([0.999] * table.num_rows, pa.float32())
    table = table.set_column(1, "sharpness_probe", moved)
    write_table(curated.output, path, SCORES, table, fingerprint="any")
    found = evaluate(curated, instance)["scores_have_not_drifted"]
    assert not found.passed
    assert f"{SHARD}: sharpness_probe lies elsewhere" in (found.description or "")


def test_a_decision_without_a_reason_is_told(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    path = curated.artifacts.selection(SHARD)
    table = read_table(curated.output, path, SELECTION)
    flipped = pa.array([not kept for kept in table["kept"].to_pylist()])
    write_table(
        curated.output,
        path,
        SELECTION,
        table.set_column(1, SELECTION.columns[1], flipped),
        fingerprint="any",
    )
    found = evaluate(curated, instance)
    told = found["every_sample_is_decided"].description or ""
    assert "are kept with a reason against them" in told
    assert "are dropped without a reason" in told
    assert not found["filtered_shards_read_back"].passed


def test_a_byte_that_changed_in_a_filtered_shard_is_told(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    tar = curated.output.root / curated.artifacts.filtered_tar(SHARD)
    data = bytearray(tar.read_bytes())
    data[0] ^= 1
    tar.write_bytes(data)
    found = evaluate(curated, instance)["filtered_shards_read_back"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert (found.description or "").startswith(f"{SHARD}: ")


def test_a_run_looks_at_its_own_shards_and_tells_what_it_finds(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    text = curated.recipe_file.read_text()
    curated.recipe_file.write_text(
        text.replace("precision: fp32", "precision: auto")
        + "checks: {max_quarantined: 0}\n"
    )
    result = curate(
        curated.recipe, LineProgress(lambda _: None), shards=[SHARD], until="embeddings"
    )
    assert "checks" in result.seconds
    (record,) = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("embeddings"), "few_are_quarantined"), limit=1
    )
    assert record.evaluation is not None and not record.evaluation.passed
    told = (record.evaluation.description or "").splitlines()
    assert [line.partition(":")[0] for line in told] == [SHARD, "What to do"]


def test_the_last_result_is_of_all_shards_as_they_are_now(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    raw, quiet = curated.source, LineProgress(lambda _: None)
    raw.write("cut.tar", raw.read("00000.tar")[:9000])
    curate(curated.recipe, quiet, until="shard_index")
    raw.write("new.tar", raw.read("00000.tar"))
    curate(curated.recipe, quiet, until="shard_index")

    def last() -> dg.AssetCheckEvaluation:
        key = dg.AssetCheckKey(dg.AssetKey("shard_index"), "tars_are_read")
        log = instance.event_log_storage
        (record,) = log.get_asset_check_execution_history(key, limit=1)
        assert record.evaluation is not None
        return record.evaluation

    assert last().metadata["shards"].value == 1
    assert (last().description or "").startswith("cut: no sample could be read")
    raw.write("cut.tar", raw.read("00000.tar"))
    curate(curated.recipe, quiet, until="shard_index")
    assert last().passed


def test_shards_that_are_gone_are_neither_checked_nor_a_measure_for_others(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    gone = "00000"
    for asset in ("shard_index", "embeddings", "scores", "duplicates", "selection"):
        for path in curated.artifacts.of(asset, gone):
            curated.output.delete(path)
    instance.delete_dynamic_partition(SHARDS.name or "", gone)
    found = evaluate(curated, instance)
    for name in ("vectors_are_whole", "scores_are_in_range", "every_sample_is_decided"):
        assert found[name].passed, found[name].description
        assert found[name].metadata["shards"].value == 2


def test_a_missing_table_is_told_by_its_shard(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    curated.output.delete(curated.artifacts.scores(SHARD))
    found = evaluate(curated, instance)["scores_are_in_range"]
    assert (found.description or "").startswith(f"{SHARD}: ")
