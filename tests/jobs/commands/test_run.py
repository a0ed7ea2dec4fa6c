"""``curate run``."""

import shutil
from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.import_world import ImportWorld
from tests.jobs.commands.conftest import Run


def test_nothing_to_do_is_said(curated: Curated, run: Run) -> None:
    code, out = run("run", "--recipe", curated.recipe_file)
    assert code == 0
    assert "there was nothing to do" in out
    assert "samples kept" in out
    assert "warning" not in out


def test_tars_that_wait_to_be_marked_are_told(curated: Curated, run: Run) -> None:
    curated.edit("output:", "complete_when: marked\noutput:")
    raw = curated.source.root
    shutil.copy(raw / "00000.tar", raw / "zz.tar")
    code, out = run("run", "--recipe", curated.recipe_file)
    assert code == 0
    assert "1 tar(s) are new or changed" in out and "zz.tar.done" in out
    assert "up to date" not in out


def test_a_filter_that_keeps_nothing_is_told_with_what_dropped_most(
    curated: Curated, run: Run
) -> None:
    curated.edit(">= 200", ">= 20000")
    code, out = run("run", "--recipe", curated.recipe_file)
    assert code == 0
    assert "warning: " in out
    assert "min(width, height) >= 20000" in out.partition("warning: ")[2]


def test_json_has_the_funnel_the_bytes_and_the_seconds(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    curated.edit(">= 200", ">= 201")
    told = run_json("run", "--recipe", curated.recipe_file)
    assert told["funnel"]["samples"] == 240
    assert told["seconds"].keys() == {"selection", "filtered_shard", "checks"}
    assert told["filtered_bytes"] > 0
    assert told["failed"] == {}


def test_some_shards_until_some_asset(curated: Curated, run: Run) -> None:
    shutil.rmtree(curated.output.root)
    code, out = run(
        "run", "-r", curated.recipe_file, "--shards", "00000", "--until", "embeddings"
    )
    assert code == 0
    assert "1 of 1 shards are not decided on yet" in out
    assert "samples kept" not in out
    assert [f.path for f in curated.output.list_files("embeddings")] == [
        curated.artifacts.embeddings("00000")
    ]


def test_a_shard_that_fails_costs_itself_and_ends_with_its_own_code(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    path = curated.artifacts.embeddings("00000")
    data = bytearray(curated.output.read(path))
    data[len(data) // 3] ^= 0xFF  # somewhere among the vectors
    curated.output.write(path, bytes(data))
    for file in curated.output.list_files("scores"):
        curated.output.delete(file.path)
    told = run_json("run", "--recipe", curated.recipe_file, code=3)
    assert list(told["failed"]) == ["00000"]
    assert "delete it, and the next run makes it again" in told["failed"]["00000"]
    assert len(curated.output.list_files("scores")) == 2
    curated.output.delete(path)
    told = run_json("run", "--recipe", curated.recipe_file)
    assert told["failed"] == {}


def test_an_import_that_fails_has_its_own_code_and_urls_are_retried_when_asked_for(
    importing: ImportWorld, run_json: Callable[..., Any]
) -> None:
    recipe = ("--recipe", importing.recipe_file, "--until", "raw_shard")
    photos = importing.folder / "photos"
    photos.rename(importing.folder / "away")
    assert list(run_json("run", *recipe, code=3)["failed"]) == ["photos"]
    (importing.folder / "away").rename(photos)
    importing.server.mended = True
    told = run_json("run", *recipe, "--retry-urls")
    assert told["seconds"].keys() == {
        "imported_images",
        "imported_urls",
        "raw_shard",
        "checks",
    }
    assert importing.server.asked["/flaky/5"] == 2
