"""``curate takedown``."""

from collections.abc import Callable
from typing import Any

from curation.tables import FILTERED, read_table
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_samples_are_gone_and_stay_away(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    curated.edit("filter: >-", "release: {samples_per_shard: 20}\nfilter: >-")
    run_json("release", "--recipe", curated.recipe_file)
    rows = read_table(curated.output, "releases/small-0001/00001.parquet", FILTERED)
    row = rows.to_pylist()[3]
    keys = curated.folder / "keys.txt"
    keys.write_text(f"{row['source_shard']}\t{row['source_key']}\n")
    told = run_json("takedown", keys, "--recipe", curated.recipe_file)
    assert told["released"] == "small-0002"
    assert row["key"] in told["taken_down"]
    later = run_json("release", "--recipe", curated.recipe_file)
    assert later["released"] is None
    code, out = run("takedown", keys, "--recipe", curated.recipe_file)
    assert (code, "they were taken down before" in out) == (0, True)


def test_a_key_that_does_not_exist_is_an_error_naming_it(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    run_json("release", "--recipe", curated.recipe_file)
    keys = curated.folder / "keys.txt"
    keys.write_text("000000000\nnobody\n")
    assert run("takedown", keys, "--recipe", curated.recipe_file)[0] == 2
    assert not curated.output.exists("releases/small-0002/manifest.json")
    assert not curated.output.list_files("takedowns")
