"""Quarantined images tried again."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.tables import (
    EMBEDDING,
    EMBEDDINGS,
    FILTERED,
    embedding_column,
    embedding_matrix,
    read_about,
    read_table,
    write_table,
)
from jobs.curate import curate
from jobs.retry import retry
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ["00000", "train/00001", "train/00002"]


def spoil(curated: Curated, key: str) -> None:
    """Make the table say that the image of a good sample could not be embedded."""
    path = curated.artifacts.embeddings("00000")
    table = read_table(curated.output, path, EMBEDDINGS)
    hit = pc.equal(table["key"], key)
    rows, valid = embedding_matrix(table[EMBEDDING])
    vectors = embedding_column(np.array(rows), valid & ~hit.to_numpy())
    errors = pc.if_else(hit, "out of memory", table["error"])
    table = table.set_column(table.schema.get_field_index("error"), "error", errors)
    table = table.set_column(table.schema.get_field_index(EMBEDDING), EMBEDDING, vectors)
    about = read_about(curated.output, path)
    kept = {name: about[name] for name in ("fingerprint", "encoder")}
    write_table(curated.output, path, EMBEDDINGS, table, **kept)


def table_of(curated: Curated) -> pa.Table:
    return read_table(curated.output, curated.artifacts.embeddings("00000"), EMBEDDINGS)


def test_a_recovered_image_is_what_it_would_have_been(curated: Curated) -> None:
    before = table_of(curated)
    filtered = curated.artifacts.filtered_table("00000")
    key = read_table(curated.output, filtered, FILTERED)["key"][0].as_py()
    tar = curated.output.read(curated.artifacts.filtered_tar("00000"))
    spoil(curated, key)
    for folder in ("selection", "filtered"):
        for file in curated.output.list_files(folder):
            curated.output.delete(file.path)
    curate(curated.recipe, LineProgress(print))
    assert key not in read_table(curated.output, filtered, FILTERED)["key"].to_pylist()

    assert retry(curated.recipe, LineProgress(print), SHARDS) == 1
    assert (
        table_of(curated).drop_columns([EMBEDDING]).equals(before.drop_columns([EMBEDDING]))
    )
    old, new = (embedding_matrix(t[EMBEDDING])[0] for t in (before, table_of(curated)))
    np.testing.assert_allclose(new, old, atol=2e-3)

    result = curate(curated.recipe, LineProgress(print))
    assert "embeddings" not in result.seconds
    assert curated.output.read(curated.artifacts.filtered_tar("00000")) == tar


def test_what_stays_broken_changes_nothing(curated: Curated) -> None:
    before = {f.path: f.version for f in curated.output.list_files()}
    assert retry(curated.recipe, LineProgress(print), SHARDS) == 0
    assert {f.path: f.version for f in curated.output.list_files()} == before


def test_tables_of_another_encoder_are_left_alone(curated: Curated) -> None:
    lines: list[str] = []
    path = curated.artifacts.embeddings("00000")
    about = read_about(curated.output, path)
    other = about["encoder"] | {"model": "another"}
    table = table_of(curated)
    write_table(curated.output, path, EMBEDDINGS, table, fingerprint="x", encoder=other)
    retry(curated.recipe, LineProgress(lines.append), ["00000"])
    assert "another encoder" in lines[-1]
