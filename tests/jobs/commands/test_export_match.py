"""``curate export match``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.testing.image_shards import make_tar
from tests.jobs.commands.conftest import Run


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Save two parts as clip-retrieval does: out of order, a copy, a key of no shard."""
    folder = tmp_path / "clip"
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    keys = [["00001001", "00000000", "00001000"], ["00000000", "00009000"]]
    for number, part in enumerate(keys):
        rows = np.arange(1, len(part) + 1) + 10 * number
        vectors = np.repeat(rows[:, None], 2, axis=1).astype(np.float16)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors)
        table = pa.table({"image_path": part})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def test_vectors_come_in_the_order_of_their_shards(
    parts: Path, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("export", "match", parts / "img_emb", parts / "metadata", out)
    told = run_json(*arguments, "--index-width", 3)
    assert told == {
        "url": str(out),
        "rows_in": 5,
        "matched": 4,
        "copies_left_out": 1,
        "of_no_shard": 0,
        "not_finite": 0,
        "shards": 3,
        "shards_from_several_parts": 0,
        "rows_of_zeros": 0,
    }
    assert np.load(out / "img_emb_00001.npy").tolist() == [[3, 3], [1, 1]]
    copies = pq.read_table(out / "report" / "duplicates.parquet").to_pylist()
    assert [(row["part"], row["part_row"], row["kept_part"]) for row in copies] == [
        (1, 0, 0)
    ]


def test_tars_say_the_order_of_keys_of_any_kind(
    parts: Path, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    shards, out = tmp_path / "shards", tmp_path / "out"
    shards.mkdir()
    members = [(f"{key}.jpg", b"x") for key in ("00001000", "none", "00001001")]
    (shards / "any name.tar").write_bytes(make_tar(members))
    arguments = ("export", "match", parts / "img_emb", parts / "metadata", out)
    told = run_json(*arguments, "--shards", shards)
    assert (told["matched"], told["of_no_shard"], told["rows_of_zeros"]) == (2, 3, 1)
    found = np.load(out / "img_emb_any name.npy")
    assert found.tolist() == [[3, 3], [0, 0], [1, 1]]
    lost = pq.read_table(out / "report" / "unmatched.parquet")
    assert lost["key"].to_pylist() == ["00000000", "00000000", "00009000"]


def test_people_are_told_the_counts(parts: Path, run: Run, tmp_path: Path) -> None:
    arguments = (parts / "img_emb", parts / "metadata", tmp_path / "out")
    code, out = run("export", "match", *arguments, "--index-width", 3)
    assert code == 0
    assert "copies left out" in out


def test_the_keys_order_has_to_come_from_somewhere(
    parts: Path, run: Run, tmp_path: Path
) -> None:
    arguments = (parts / "img_emb", parts / "metadata", tmp_path / "out")
    assert run("export", "match", *arguments)[0] == 2
    both = ("--index-width", 3, "--shards", tmp_path)
    assert run("export", "match", *arguments, *both)[0] == 2
