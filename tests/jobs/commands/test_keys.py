"""``curate keys``."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import InputError
from curation.recipe import load_recipe
from curation.tables import EMBEDDINGS, read_table, table_about, write_table
from jobs.commands.keys import keys
from jobs.decide import decide
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


@pytest.fixture
def kept(curated: Curated) -> set[tuple[str, str]]:
    """List what the filtered shards hold."""
    folder = curated.output.root / curated.artifacts.filtered_folder
    return {
        (file.relative_to(folder).with_suffix("").as_posix(), key)
        for file in folder.rglob("*.parquet")
        for key in pq.read_table(file)["key"].to_pylist()
    }


def test_the_list_has_every_kept_sample_and_no_other(
    curated: Curated,
    kept: set[tuple[str, str]],
    run_json: Callable[..., Any],
    tmp_path: Path,
) -> None:
    out = tmp_path / "keys.parquet"
    told = run_json("keys", out, "--recipe", curated.recipe_file)
    listed = pl.read_parquet(out)
    assert told == {"file": str(out), "samples": len(kept)}
    assert set(zip(listed["shard"], listed["key"], strict=True)) == kept
    assert listed["sha256"].null_count() == 0


def test_a_list_applied_to_the_same_shards_selects_the_same_samples(
    curated: Curated, kept: set[tuple[str, str]], run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "keys.parquet"
    assert run("keys", out, "--recipe", curated.recipe_file)[0] == 0
    other = curated.folder / "other.yaml"
    text = curated.recipe_file.read_text()
    before = text[text.index("filter:") : text.index("machine:")]
    rule = f'filter: selected("{out}") and not is_duplicate\n'
    other.write_text(text.replace(before, rule))
    chosen = {
        (shard, key)
        for shard, table in decide(load_recipe(other)).selections.items()
        for key in table["key"].filter(table["kept"]).to_pylist()
    }
    assert chosen == kept


def test_uids_are_written_as_datacomp_does(
    curated: Curated, kept: set[tuple[str, str]], run: Run, tmp_path: Path
) -> None:
    uids = {place: hashlib.md5("/".join(place).encode()).hexdigest() for place in kept}
    for shard in {shard for shard, _ in kept}:
        path = curated.artifacts.embeddings(shard)
        table = read_table(curated.output, path, EMBEDDINGS)
        texts = [
            json.dumps({"uid": uids.get((shard, key))}) for key in table["key"].to_pylist()
        ]
        place = table.column_names.index("metadata")
        table = table.set_column(place, "metadata", pa.array(texts))
        made_of = table_about(table)["fingerprint"]
        write_table(curated.output, path, EMBEDDINGS, table, fingerprint=made_of)
    out = tmp_path / "uids.npy"
    assert run("keys", out, "--recipe", curated.recipe_file)[0] == 0
    pairs = [(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids.values()]
    expected = np.array(sorted(pairs), np.dtype("u8,u8"))
    np.testing.assert_array_equal(np.load(out), expected)


def test_samples_without_a_uid_are_counted(curated: Curated, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have no uid in their \.json; write a \.parquet"):
        keys(tmp_path / "uids.npy", curated.recipe_file)
    assert not (tmp_path / "uids.npy").exists()


def test_another_kind_of_file_is_refused(curated: Curated) -> None:
    with pytest.raises(InputError, match=r"ends in \.parquet or \.npy"):
        keys(Path("keys.txt"), curated.recipe_file)
