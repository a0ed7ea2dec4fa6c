"""Stored vectors are compared with what timm's own transform gives."""

import dagster as dg
import numpy as np

from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    embedding_column,
    embedding_matrix,
    read_table,
    write_table,
)
from curation_assets.parity_check import PARITY
from jobs.definitions import build_definitions
from tests.conftest import Curated

FIRST = "00000"


def evaluate(curated: Curated, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    job = build_definitions(curated.recipe).resolve_implicit_global_asset_job_def()
    key = dg.AssetCheckKey(dg.AssetKey("embeddings"), PARITY.name)
    check = job.get_subset(asset_selection=set(), asset_check_selection={key})
    done = check.execute_in_process(instance=instance)
    (found,) = done.get_asset_check_evaluations()
    return found


def test_what_a_run_embedded_is_what_timm_gives(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    found = evaluate(curated, instance)
    assert found.passed, found.description
    assert found.metadata["images"].value == 8
    assert float(found.metadata["median_cosine"].value) > 0.9999  # type: ignore[arg-type]


def test_vectors_of_other_images_are_told(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    path = curated.artifacts.embeddings(FIRST)
    table = read_table(curated.output, path, EMBEDDINGS)
    vectors, valid = embedding_matrix(table[EMBEDDING])
    vectors = vectors.copy()
    vectors[valid] = np.roll(vectors[valid], 1, axis=0)
    place = table.column_names.index(EMBEDDING)
    table = table.set_column(place, EMBEDDING, embedding_column(vectors, valid))
    write_table(curated.output, path, EMBEDDINGS, table, fingerprint="any")
    found = evaluate(curated, instance)
    assert not found.passed
    assert (found.description or "").startswith(f"{FIRST}: the median cosine is 0.")
    assert "curate doctor --parity" in (found.description or "")


def test_a_shard_without_vectors_is_no_proof(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    path = curated.artifacts.embeddings(FIRST)
    table = read_table(curated.output, path, EMBEDDINGS).slice(0, 0)
    write_table(curated.output, path, EMBEDDINGS, table, fingerprint="any")
    found = evaluate(curated, instance)
    assert found.metadata["shard"].value == "train/00001"
    assert found.metadata["images"].value == 8


def test_a_tar_that_is_gone_is_told_and_fails_no_run(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    (curated.folder / "raw" / f"{FIRST}.tar").unlink()
    found = evaluate(curated, instance)
    assert not found.passed
    assert "no such file" in (found.description or "")


def test_images_with_a_vector_that_pillow_refuses_do_not_blame_the_loader(
    curated: Curated, instance: dg.DagsterInstance
) -> None:
    """As 0.1.0 embedded them: nvImageCodec gave pixels, gray from some row on."""
    path = curated.artifacts.embeddings(FIRST)
    table = read_table(curated.output, path, EMBEDDINGS)
    first = int(np.flatnonzero(table["error"].is_null().to_numpy())[0])
    start, size = (table[name][first].as_py() for name in ("image_start", "image_bytes"))
    with (curated.folder / "raw" / f"{FIRST}.tar").open("r+b") as tar:
        tar.seek(start + size // 2)
        tar.write(b"\xff\x37" * 8)
    found = evaluate(curated, instance)
    assert not found.passed
    told = found.description or ""
    assert "1 of 8 images have a vector, and Pillow refuses them" in told
    assert "median cosine" not in told
