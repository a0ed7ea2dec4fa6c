"""``curate explain``."""

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_a_sample_is_told_in_a_table(curated: Curated, run: Run) -> None:
    code, out = run(
        "explain", "cover", "--recipe", curated.recipe_file, "--shards", "00000"
    )
    assert code == 0
    for word in ("cover", "sharpness", "decision", "raw tar", "bytes"):
        assert word in out


def test_json_has_every_story(curated: Curated, run_json: Callable[..., Any]) -> None:
    told = run_json("explain", "cover", "--recipe", curated.recipe_file)
    assert [story["shard"] for story in told] == ["00000", "train/00001", "train/00002"]


def test_hashes_and_paths_are_told_whole(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    rows = pq.read_table(curated.folder / "raw" / "planted.parquet").to_pylist()
    key = next(row for row in rows if row["kind"] == "photograph")["key"]
    (story,) = run_json("explain", key, "--recipe", curated.recipe_file)
    _, out = run("explain", key, "--recipe", curated.recipe_file)
    cells = [line.split("│")[2].strip() for line in out.splitlines() if "│" in line]
    for whole in (story["facts"]["sha256"], story["url"], story["filtered_url"]):
        assert whole is None or whole in "".join(cells)
    assert len(bytes.fromhex(story["facts"]["perceptual_hash"])) == 32


def test_a_group_of_copies_is_told_in_a_table(curated: Curated, run: Run) -> None:
    rows = pq.read_table(curated.folder / "raw" / "planted.parquet").to_pylist()
    copy = next(row for row in rows if row["kind"] == "exact_copy")
    _, out = run("explain", copy["key"], "--recipe", curated.recipe_file)
    words = " ".join(out.replace("│", " ").split())
    assert "copies 2, of which one stays" in words
    assert f"stays {copy['twin_key']} of shard {copy['twin_shard']}" in words
    itself = f"goes {copy['key']} of shard {copy['shard']}, this one (identical)"
    assert itself in words


def test_an_unknown_key_is_wrong_input(curated: Curated, run: Run) -> None:
    assert run("explain", "nonesuch", "--recipe", curated.recipe_file)[0] == 2
