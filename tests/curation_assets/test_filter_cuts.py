"""Cuts over all shards: fractions that hold, and selections that stay as they were."""

import json

import numpy as np
import pyarrow as pa
import pytest

from curation.errors import StaleError
from curation.storage import MemoryStorage
from curation.tables import DUPLICATES, EMBEDDINGS, SELECTION, read_table
from curation_assets.filter_cuts import read_cuts
from curation_assets.shard_asset import recorded_version
from jobs.curate import curate
from jobs.instance import open_instance
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ("00000", "train/00001", "train/00002")
CUT = "not is_duplicate and top_fraction(brightness, 0.25)"


@pytest.fixture
def cut(curated: Curated) -> Curated:
    """Keep the brightest quarter."""
    text = curated.recipe_file.read_text()
    start, stop = text.index("filter:"), text.index("machine:")
    curated.recipe_file.write_text(f"{text[:start]}filter: {CUT}\n{text[stop:]}")
    curate(curated.recipe, LineProgress(print))
    return curated


def facts(curated: Curated) -> dict[str, pa.Table]:
    path = curated.artifacts.embeddings
    return {shard: read_table(curated.output, path(shard), EMBEDDINGS) for shard in SHARDS}


def test_the_cut_is_numpys_over_all_shards(cut: Curated) -> None:
    values = np.concatenate(
        [
            table.filter(table["error"].is_null())["brightness"].to_numpy()
            for table in facts(cut).values()
        ]
    )
    expected = np.sort(values)[::-1][int(np.ceil(0.25 * len(values))) - 1]
    found = json.loads(cut.output.read(cut.artifacts.filter_cuts))
    assert list(found.values()) == [pytest.approx(expected)]
    for shard, table in facts(cut).items():
        copies = read_table(cut.output, cut.artifacts.duplicates(shard), DUPLICATES)
        dropped = set(copies["key"].to_pylist())
        kept = {
            row["key"]
            for row in table.to_pylist()
            if row["error"] is None
            and row["brightness"] >= expected
            and row["key"] not in dropped
        }
        path = cut.artifacts.selection(shard)
        rows = read_table(cut.output, path, SELECTION).to_pylist()
        assert {row["key"] for row in rows if row["kept"]} == kept


def test_a_shard_that_moves_no_cut_makes_no_selection_stale(cut: Curated) -> None:
    with open_instance(cut.recipe) as instance:
        before = recorded_version(instance, "filter_cuts")
    versions = {f.path: f.version for f in cut.output.list_files("selection/small")}
    (cut.source.root / "empty.tar").write_bytes(bytes(1024))
    result = curate(cut.recipe, LineProgress(print))
    assert "filter_cuts" in result.seconds
    with open_instance(cut.recipe) as instance:
        assert recorded_version(instance, "filter_cuts") == before
    after = {f.path: f.version for f in cut.output.list_files("selection/small")}
    assert {path: after[path] for path in versions} == versions


def test_there_is_nothing_to_do_a_second_time(cut: Curated) -> None:
    assert curate(cut.recipe, LineProgress(print)).num_runs == 0


def test_a_lost_file_of_cuts_is_made_again(cut: Curated) -> None:
    cut.output.delete(cut.artifacts.filter_cuts)
    assert set(curate(cut.recipe, LineProgress(print)).seconds) == {"filter_cuts"}


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\x00", b"[1]", b'{"a": "b"}'])
def test_a_damaged_file_of_cuts_is_told(data: bytes) -> None:
    output = MemoryStorage()
    output.write("cuts.json", data)
    with pytest.raises(StaleError, match=r"cuts\.json: not the values"):
        read_cuts(output, "cuts.json")
