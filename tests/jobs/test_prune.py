"""What is unused is found, and nothing else."""

from pathlib import Path

import pytest

from curation.errors import InputError
from curation.recipe import load_recipe
from jobs.curate import CurateResult, curate
from jobs.prune import find_unused
from resources.progress import LineProgress
from tests.conftest import Curated


def test_all_that_a_recipe_made_is_in_use(curated: Curated) -> None:
    assert find_unused([curated.recipe]) == []


def test_what_is_left_of_a_shard_that_is_gone_is_unused(curated: Curated) -> None:
    artifacts = curated.artifacts
    (curated.folder / "raw" / "00000.tar").unlink()
    expected = {
        path
        for asset in ("shard_index", "embeddings", "scores", "duplicates", "selection")
        for path in artifacts.of(asset, "00000")
    } | set(artifacts.of("filtered_shard", "00000"))
    assert {file.path for file in find_unused([curated.recipe])} == expected


def test_what_other_settings_made_is_unused_unless_their_recipe_is_named(
    curated: Curated,
) -> None:
    before = curated.recipe
    after = curated.edit("{precision: fp32}", "{precision: bf16}")
    unused = {file.path.split("/")[0] for file in find_unused([after])}
    assert unused == {"embeddings", "scores"}
    assert find_unused([before, after]) == []


def test_releases_and_files_of_others_are_never_unused(curated: Curated) -> None:
    for path in ("releases/x/00000.tar", "takedowns/1.parquet", "mine.txt", "filtered/b/c"):
        curated.output.write(path, b"")
    assert find_unused([curated.recipe]) == []


def test_what_was_set_aside_is_unused(curated: Curated) -> None:
    (curated.folder / "raw" / "00000.tar").unlink()
    curate(curated.recipe, LineProgress(lambda _: None))
    unused = {file.path for file in find_unused([curated.recipe])}
    assert {f"set_aside/small/00000.{s}" for s in ("tar", "idx", "parquet")} <= unused


def test_recipes_of_different_outputs_are_refused(curated: Curated, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("name: other\nsource: raw\noutput: elsewhere\n")
    with pytest.raises(InputError, match="different outputs"):
        find_unused([curated.recipe, load_recipe(other)])


def test_what_was_deleted_is_made_again_when_its_shard_comes_back(
    curated: Curated,
) -> None:
    tar = curated.folder / "raw" / "00000.tar"
    hidden = tar.rename(curated.folder / "hidden")
    before = {file.path: file.size for file in curated.output.list_files("filtered")}
    for file in find_unused([curated.recipe]):
        curated.output.delete(file.path)
    hidden.rename(tar)
    result = curate(curated.recipe, LineProgress(lambda _: None))
    assert result != CurateResult()
    assert {f.path: f.size for f in curated.output.list_files("filtered")} == before
