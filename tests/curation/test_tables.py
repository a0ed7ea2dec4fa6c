"""Tables come back as they were written, and nothing else passes for one."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from curation.errors import NotFoundError, TableError, UnknownNameError
from curation.storage import LocalStorage, MemoryStorage, Storage
from curation.tables import (
    CATALOG,
    DUPLICATES,
    EMBEDDING,
    EMBEDDINGS,
    FILTERED,
    PLANTED,
    SCORES,
    SELECTION,
    TableKind,
    embedding_column,
    embedding_matrix,
    embedding_type,
    read_about,
    read_footer,
    read_table,
    to_polars,
    write_table,
)

KINDS = [CATALOG, EMBEDDINGS, SCORES, DUPLICATES, SELECTION, FILTERED, PLANTED]


def nothing(kind: TableKind) -> pa.Table:
    return pa.schema(kind.columns).empty_table()


def filled(kind: TableKind, num_rows: int = 5) -> pa.Table:
    """Make rows of a kind: values that differ, and nulls where there may be some."""
    columns = {}
    for field in kind.columns:
        values = [_value(field.type, i) for i in range(num_rows)]
        if field.nullable and num_rows:
            values[0] = None
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns, schema=pa.schema(kind.columns))


def _value(kind: pa.DataType, i: int) -> Any:
    if pa.types.is_fixed_size_binary(kind):
        return bytes([i % 256]) * kind.byte_width
    if pa.types.is_fixed_size_list(kind):
        return [i] * kind.list_size
    if pa.types.is_list(kind):
        return [f"reason {j}" for j in range(i)]
    if pa.types.is_string(kind):
        return f"ünïcode {i}"
    return bool(i % 2) if pa.types.is_boolean(kind) else i


def with_vectors(vectors: np.ndarray, valid: np.ndarray) -> pa.Table:
    table = filled(EMBEDDINGS, len(vectors))
    return table.append_column(EMBEDDING, embedding_column(vectors, valid))


@pytest.fixture(params=["memory", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Give a storage that Arrow reads through Python, and one that it reads itself."""
    return MemoryStorage() if request.param == "memory" else LocalStorage(tmp_path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_every_kind_comes_back_as_it_was_written(
    storage: Storage, kind: TableKind, num_rows: int
) -> None:
    table = filled(kind, num_rows)
    write_table(storage, "t", kind, table, fingerprint="f")
    back = read_table(storage, "t", kind)
    assert back.to_pylist() == table.to_pylist()
    assert back.schema.remove_metadata().equals(pa.schema(kind.columns))
    back.validate(full=True)


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_other_programs_read_a_table_and_what_it_says_of_itself(
    storage: Storage,
) -> None:
    table = filled(SELECTION)
    write_table(storage, "t", SELECTION, table, fingerprint="f", recipe="demo")
    frame = pl.read_parquet(io.BytesIO(storage.read("t")))
    assert frame.to_dicts() == table.to_pylist()
    metadata = pq.read_schema(io.BytesIO(storage.read("t"))).metadata
    assert json.loads(metadata[b"curation"]) == {
        "table": "selection",
        "version": 1,
        "fingerprint": "f",
        "recipe": "demo",
    }


def test_a_table_says_of_itself_what_its_step_told_it(storage: Storage) -> None:
    about = {"encoder": {"model": "m", "dim": 4}, "rows": 5}
    write_table(storage, "t", SCORES, filled(SCORES), fingerprint="abc", **about)
    assert read_about(storage, "t") == about | {
        "table": "scores",
        "version": 1,
        "fingerprint": "abc",
        "num_rows": 5,
    }


def test_the_same_table_gives_the_same_bytes(storage: Storage) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 32)).astype(np.float16)
    table = with_vectors(rows, rng.random(3000) < 0.9)
    write_table(storage, "whole", EMBEDDINGS, table, fingerprint="f", a=1, b=2)
    write_table(storage, "again", EMBEDDINGS, table, fingerprint="f", b=2, a=1)
    in_pieces = pa.concat_tables([table[:7], table[7:2000], table[2000:2000], table[2000:]])
    write_table(storage, "pieces", EMBEDDINGS, in_pieces, fingerprint="f", a=1, b=2)
    turned = table.select(table.column_names[::-1])
    turned = turned.select([EMBEDDING, *(n for n in turned.column_names if n != EMBEDDING)])
    write_table(storage, "turned", EMBEDDINGS, turned, fingerprint="f", a=1, b=2)
    for other in ("again", "pieces", "turned"):
        assert storage.read(other) == storage.read("whole"), other


def test_columns_may_come_in_any_order_and_are_kept_in_the_kinds(
    storage: Storage,
) -> None:
    table = filled(DUPLICATES)
    turned = table.select(table.column_names[::-1])
    write_table(storage, "t", DUPLICATES, turned, fingerprint="f")
    assert read_table(storage, "t", DUPLICATES).column_names == table.column_names


def test_some_columns_can_be_read_alone(storage: Storage) -> None:
    write_table(storage, "t", CATALOG, filled(CATALOG), fingerprint="f")
    table = read_table(storage, "t", CATALOG, ["size", "key"])
    assert sorted(table.column_names) == ["key", "size"]
    assert len(table) == 5
    assert read_table(storage, "t", CATALOG, []).num_columns == 0


def test_a_column_that_is_not_there_is_named_with_those_that_are(
    storage: Storage,
) -> None:
    write_table(storage, "t", SCORES, filled(SCORES), fingerprint="f")
    with pytest.raises(UnknownNameError, match=r"column of t 'kye'; did you mean key\?"):
        read_table(storage, "t", SCORES, ["kye"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_missing_column_is_named(storage: Storage, kind: TableKind) -> None:
    for field in kind.columns:
        table = filled(kind).drop_columns([field.name])
        with pytest.raises(TableError, match=f"needs a column {field.name}"):
            write_table(storage, "t", kind, table, fingerprint="f")
    assert not storage.list_files()


def test_a_column_of_another_type_is_named(storage: Storage) -> None:
    table = filled(SELECTION).set_column(1, "kept", pa.array([1] * 5))
    with pytest.raises(TableError, match=r"t: column kept .* is bool; found int64"):
        write_table(storage, "t", SELECTION, table, fingerprint="f")


def test_nulls_are_refused_where_there_may_be_none(storage: Storage) -> None:
    table = filled(SELECTION).set_column(0, "key", pa.array(["a", None, "c", None, "e"]))
    with pytest.raises(TableError, match=r"column key .* no nulls; found 2 in 5 rows"):
        write_table(storage, "t", SELECTION, table, fingerprint="f")


def test_further_columns_are_those_that_the_kind_allows(storage: Storage) -> None:
    def extended(kind: TableKind, extra: pa.Array) -> None:
        table = filled(kind).append_column("extra", extra)
        write_table(storage, "t", kind, table, fingerprint="f")

    text, number = pa.array(["x"] * 5), pa.array([1.0] * 5, pa.float32())
    with pytest.raises(TableError, match=r"no columns beside its own; found extra"):
        extended(SELECTION, number)
    with pytest.raises(TableError, match=r"only float columns .* which is string"):
        extended(SCORES, text)
    extended(SCORES, number)
    extended(FILTERED, text)
    assert read_table(storage, "t", FILTERED)["extra"].to_pylist() == ["x"] * 5


def test_a_file_that_is_not_there_is_not_found(storage: Storage) -> None:
    with pytest.raises(NotFoundError):
        read_table(storage, "none", SCORES)
    with pytest.raises(NotFoundError):
        read_about(storage, "none")


def test_a_table_of_another_kind_or_version_is_refused(storage: Storage) -> None:
    write_table(storage, "t", SCORES, filled(SCORES), fingerprint="f")
    with pytest.raises(TableError, match=r"expected a filtered table .* found scores of"):
        read_table(storage, "t", FILTERED)
    newer = TableKind("scores", 2, SCORES.columns, SCORES.open_type)
    with pytest.raises(TableError, match=r"version 2; found scores of version 1; delete"):
        read_table(storage, "t", newer)


@pytest.mark.parametrize("metadata", [None, {"curation": "[1]"}, {"pandas": "{}"}])
def test_another_programs_table_is_refused(
    storage: Storage, metadata: dict[str, str] | None
) -> None:
    buffer = io.BytesIO()
    pq.write_table(filled(SCORES).replace_schema_metadata(metadata), buffer)
    storage.write("t", buffer.getvalue())
    with pytest.raises(TableError, match=r"found another program's file; delete it"):
        read_table(storage, "t", SCORES)
    assert read_about(storage, "t") == {}


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"<html>" * 100, b"\0" * 4096])
def test_what_is_no_parquet_is_refused(storage: Storage, data: bytes) -> None:
    storage.write("t", data)
    for read in (
        lambda: read_table(storage, "t", SCORES),
        lambda: read_about(storage, "t"),
    ):
        with pytest.raises(TableError, match=r"/t: not a table .* delete it"):
            read()


def test_a_table_cut_anywhere_is_refused(storage: Storage) -> None:
    write_table(storage, "t", CATALOG, filled(CATALOG, 50), fingerprint="f")
    whole = storage.read("t")
    for stop in range(0, len(whole), 61):
        storage.write("cut", whole[:stop])
        with pytest.raises(TableError):
            read_table(storage, "cut", CATALOG)


def test_a_changed_byte_is_noticed_or_harmless(storage: Storage) -> None:
    write_table(storage, "t", CATALOG, filled(CATALOG, 50), fingerprint="f")
    whole = storage.read("t")
    expected = read_table(storage, "t", CATALOG)
    for place in range(0, len(whole), 1):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        storage.write("changed", bytes(changed))
        try:
            table = read_table(storage, "changed", CATALOG)
        except TableError:
            continue
        assert table.equals(expected), place


rows_and_valid = st_np.arrays(
    np.float16,
    st.tuples(st.integers(0, 12), st.integers(1, 9)),
    elements=st.floats(-4, 4, width=16),
).flatmap(lambda rows: st.tuples(st.just(rows), st_np.arrays(bool, len(rows))))


@given(rows_and_valid)
def test_vectors_come_back_with_zeros_for_nulls(
    given_rows: tuple[np.ndarray, np.ndarray],
) -> None:
    vectors, valid = given_rows
    storage = MemoryStorage()
    write_table(storage, "t", EMBEDDINGS, with_vectors(vectors, valid), fingerprint="f")
    column = read_table(storage, "t", EMBEDDINGS)[EMBEDDING]
    back, back_valid = embedding_matrix(column)
    assert column.type == embedding_type(vectors.shape[1])
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back_valid, valid)
    np.testing.assert_array_equal(back, np.where(valid[:, None], vectors, 0))


@given(rows_and_valid, st.data())
def test_any_slice_or_chunks_of_vectors_are_those_rows(
    given_rows: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    vectors, valid = given_rows
    column = embedding_column(vectors, valid)
    start = data.draw(st.integers(0, len(vectors)))
    stop = data.draw(st.integers(start, len(vectors)))
    expected = np.where(valid[:, None], vectors, 0)
    sliced, sliced_valid = embedding_matrix(column[start:stop])
    np.testing.assert_array_equal(sliced, expected[start:stop])
    np.testing.assert_array_equal(sliced_valid, valid[start:stop])
    chunked = pa.chunked_array([column[:start], column[start:]], column.type)
    np.testing.assert_array_equal(embedding_matrix(chunked)[0], expected)


def test_no_rows_and_no_chunks_are_an_empty_matrix() -> None:
    column = pa.chunked_array([], embedding_type(8))
    vectors, valid = embedding_matrix(column)
    assert vectors.shape == (0, 8)
    assert valid.shape == (0,)


def test_vectors_without_nulls_are_not_copied() -> None:
    column = embedding_column(np.ones((5, 8), np.float16), np.ones(5, bool))
    vectors, _ = embedding_matrix(column)
    address = column.buffers()[1].address
    assert vectors.__array_interface__["data"][0] == address


def test_wider_floats_are_rounded_to_half() -> None:
    exact = np.array([[1 / 3, 1 + 2**-12]], np.float32)
    vectors, _ = embedding_matrix(embedding_column(exact, np.array([True])))
    np.testing.assert_array_equal(vectors, exact.astype(np.float16))


def test_a_column_of_lists_is_no_column_of_vectors() -> None:
    with pytest.raises(TableError, match=r"fixed_size_binary; found list<item: float>"):
        embedding_matrix(pa.array([[1.0, 2.0]], pa.list_(pa.float32())))


@given(rows_and_valid)
def test_polars_sees_arrays_of_float(given_rows: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, valid = given_rows
    table = with_vectors(vectors, valid)
    frame = to_polars(table)
    assert frame.columns == table.column_names
    assert frame.schema[EMBEDDING] == pl.Array(pl.Float32, vectors.shape[1])
    for ours, row, is_valid in zip(frame[EMBEDDING], vectors, valid, strict=True):
        assert (ours is None) == (not is_valid)
        if is_valid:
            np.testing.assert_array_equal(np.asarray(ours), row.astype(np.float32))
    assert frame["key"].to_list() == table["key"].to_pylist()


def test_polars_sees_a_table_without_vectors_as_it_is() -> None:
    table = filled(SELECTION)
    assert to_polars(table).to_dicts() == table.to_pylist()


@pytest.mark.parametrize("kind", [CATALOG, EMBEDDINGS], ids=lambda kind: kind.name)
@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_the_footer_counts_rows_and_values_as_the_columns_do(
    kind: TableKind, num_rows: int
) -> None:
    storage, table = MemoryStorage(), filled(kind, num_rows)
    names = [field.name for field in kind.columns]
    write_table(storage, "t", kind, table, fingerprint="x", row_groups=[1] * num_rows)
    found = read_footer(storage, "t", kind, names)
    assert found.num_rows == num_rows
    assert found.about["fingerprint"] == "x"
    assert found.filled == {n: num_rows - table[n].null_count for n in names}
    written = pq.read_table(io.BytesIO(storage.read("t")))
    sink = io.BytesIO()
    pq.write_table(written, sink, write_statistics=False)  # as another program may
    storage.write("t", sink.getvalue())
    assert read_footer(storage, "t", kind, names).filled == found.filled
    with pytest.raises(TableError, match="expected a selection"):
        read_footer(storage, "t", SELECTION, ["key"])
