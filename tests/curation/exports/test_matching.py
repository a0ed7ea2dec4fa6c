"""Embeddings in any order find their samples, against dictionaries."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import InputError, TableError
from curation.exports import match_embeddings, matching, read_shard_keys
from curation.storage import LocalStorage
from curation.testing.image_shards import make_tar

DIM = 3


def save(folder: Path, parts: list[list[str]], dtype: str = "float16") -> np.ndarray:
    """Save parts as clip-retrieval does; row i of all parts is i + 1, three times."""
    rows = np.repeat(np.arange(sum(map(len, parts))) + 1, DIM).reshape(-1, DIM)
    first = 0
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(exist_ok=True, parents=True)
    for number, keys in enumerate(parts):
        part = rows[first : first + len(keys)].astype(dtype)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", part)
        table = pa.table({"image_path": pa.array(keys, pa.string())})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
        first += len(keys)
    return rows.astype(dtype)


def match(folder: Path, **how: Any) -> matching.MatchReport:
    out = folder / "out"
    return match_embeddings(f"{folder}/img_emb", f"{folder}/metadata", str(out), **how)


keys_of_digits = st.integers(0, 399).map(lambda number: f"{number:05d}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(st.lists(keys_of_digits, max_size=60), min_size=1, max_size=4).filter(any),
    st.sampled_from([10, 10_000]),
)
def test_every_row_is_in_its_place_or_in_the_report(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str]], rows_at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("match")
    rows = save(folder, parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "ROWS_AT_ONCE", rows_at_once)
        patch.setattr(matching, "BLOCK_BYTES", 100)
        report = match(folder, index_width=2)
    first: dict[str, int] = {}
    for row, key in enumerate(itertools.chain(*parts)):
        first.setdefault(key, row)
    shards = {key[:3] for key in first}
    assert {p.stem for p in (folder / "out").iterdir()} == {
        f"img_emb_00{s}" for s in shards
    }
    for shard in shards:
        found = np.load(folder / "out" / f"img_emb_00{shard}.npy")
        present = {int(k[3:]): row for k, row in first.items() if k[:3] == shard}
        assert len(found) == max(present) + 1
        assert found.dtype == np.float16
        for index, vector in enumerate(found):
            wanted = rows[present[index]] if index in present else np.zeros(DIM)
            assert np.array_equal(vector, wanted)
    assert report.num_rows == len(rows)
    assert report.num_matched == len(first)
    assert len(report.duplicates) == len(rows) - len(first)
    assert not report.duplicates["same"].to_numpy(zero_copy_only=False).any()


def test_keys_of_any_kind_follow_the_order_of_their_shards(tmp_path: Path) -> None:
    rows = save(tmp_path, [["b", "x/c", "lost"], ["a", "e"]], "float32")
    shards = {"00000": ["a", "b", "none"], "00001": ["x/c"], "00002": ["also none"]}
    report = match(tmp_path, shard_keys=shards)
    found = {name: np.load(tmp_path / "out" / f"img_emb_{name}.npy") for name in shards}
    assert np.array_equal(found["00000"], [rows[3], rows[0], [0] * DIM])
    assert np.array_equal(found["00001"], [rows[1]])
    assert np.array_equal(found["00002"], [[0] * DIM])
    assert report.unmatched.to_pylist() == [
        {"key": "lost", "part": 0, "part_row": 2},
        {"key": "e", "part": 1, "part_row": 1},
    ]
    assert (report.num_matched, report.num_missing) == (3, 2)
    assert report.num_spread_shards == 1


def test_a_key_that_comes_twice_tells_where_and_whether_it_differs(tmp_path: Path) -> None:
    save(tmp_path, [["00001", "00000"], ["00001"]])
    report = match(tmp_path, index_width=2)
    assert report.duplicates.to_pylist() == [
        {
            "shard": "00000", "row": 1, "part": 1, "part_row": 0,
            "kept_part": 0, "kept_part_row": 0, "same": False,
        }
    ]  # fmt: skip


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    save(tmp_path, [["00001"], ["00002"]])
    with pytest.raises(InputError, match="either index_width"):
        match(tmp_path)
    with pytest.raises(InputError, match="comes twice"):
        match(tmp_path, shard_keys={"0": ["a"], "1": ["a"]})
    with pytest.raises(InputError, match=r"metadata_0\.parquet: expected keys of digits"):
        match(tmp_path, index_width=5)
    (tmp_path / "metadata" / "metadata_1.parquet").unlink()
    with pytest.raises(TableError, match="no partner"):
        match(tmp_path, index_width=2)


def test_files_are_named_as_the_parts_are(tmp_path: Path) -> None:
    rows = save(tmp_path, [["00001", "00000"]])
    folder = tmp_path / "img_emb"
    (folder / "img_emb_0.npy").rename(folder / "text_emb_0.npy")
    match(tmp_path, index_width=2, shard_width=4)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["text_emb_0000.npy"]
    assert np.array_equal(np.load(tmp_path / "out" / "text_emb_0000.npy"), rows[::-1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_shard_with_holes_has_the_dtype_of_those_without(
    tmp_path: Path, dtype: str
) -> None:
    save(tmp_path, [["00000", "00003", "00100", "00101"]], dtype)
    match(tmp_path, index_width=2)
    found = {file.name: np.load(file) for file in (tmp_path / "out").iterdir()}
    assert {name: (len(rows), str(rows.dtype)) for name, rows in found.items()} == {
        "img_emb_00000.npy": (4, dtype),
        "img_emb_00001.npy": (2, dtype),
    }


def test_a_part_that_fails_is_an_error_and_leaves_no_shard_by_halves(
    tmp_path: Path,
) -> None:
    save(tmp_path, [["00000", "00001"], ["00002", "00003"]])
    part = tmp_path / "img_emb" / "img_emb_1.npy"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(TableError, match=r"img_emb_1\.npy: its header promises"):
        match(tmp_path, index_width=2)
    assert not (tmp_path / "out").exists()


def test_keys_and_their_order_are_read_from_tars(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write(
        "00000.tar", make_tar([("b.jpg", b"x"), ("b.txt", b"x"), ("a/c.jpg", b"")])
    )
    storage.write("more/00001.tar", make_tar([("a.jpg", b"x")]))
    assert read_shard_keys(storage) == {"00000": ["b", "a/c"], "00001": ["a"]}
    storage.write("more/00000.tar", make_tar([]))
    found = read_shard_keys(storage)  # of equal names: by their paths
    assert found == {"00000": ["b", "a/c"], "more/00000": [], "more/00001": ["a"]}
    with pytest.raises(InputError, match=r"there is no \.tar"):
        read_shard_keys(LocalStorage(tmp_path / "none"))


def test_tars_of_several_folders_may_have_the_same_names(
    two_inputs: LocalStorage, tmp_path: Path
) -> None:
    keys = read_shard_keys(two_inputs)
    assert list(keys) == ["a/0000", "a/0001", "b/c/0000", "b/c/0001", "b/c/0002"]
    every = [key for name in keys for key in keys[name]]
    rows = save(tmp_path, [every[::-1]])
    report = match(tmp_path, shard_keys=keys)
    assert report.num_matched == 100
    paths = report.shards["path"].to_pylist()
    assert paths[0] == "a/img_emb_0000.npy"
    found = np.concatenate([np.load(tmp_path / "out" / path) for path in paths])
    assert np.array_equal(found, rows[::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_vectors_that_are_not_finite_are_reported_and_left_zeros(
    tmp_path: Path, value: float, dtype: str
) -> None:
    save(tmp_path, [["00000", "00001"], ["00002", "00003"]], dtype)
    part = tmp_path / "img_emb" / "img_emb_1.npy"
    rows = np.load(part)
    rows[0, 1] = value
    np.save(part, rows)
    report = match(tmp_path, index_width=3)
    assert report.not_finite.to_pylist() == [{"key": "00002", "part": 1, "part_row": 0}]
    assert (report.num_rows, report.num_matched, report.num_missing) == (4, 3, 1)
    found = np.load(tmp_path / "out" / "img_emb_00000.npy")
    assert found[:, 0].tolist() == [1, 2, 0, 4]
    assert np.isfinite(found).all()
