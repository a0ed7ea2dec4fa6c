"""``curate import images``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.commands.import_images import MOST_ROWS
from tests.jobs.commands.conftest import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder of three images, one with a caption, and two other files."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        picture = Image.new("RGB", (4, 4), (number, 0, 0))
        picture.save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "0.txt").write_text("a caption")
    (tmp_path / "in" / "page.jpg").write_text("<html>")
    (tmp_path / "in" / "notes.md").write_text("# notes")
    return tmp_path / "in"


def test_a_folder_becomes_shards(
    folder: Path, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("import", "images", folder, tmp_path / "out", "--samples-per-shard", 2)
    told = run_json(*arguments)
    assert (told["shards"], told["written"], told["samples"]) == (2, 2, 3)
    assert [row["path"] for row in told["refused"]] == ["notes.md", "page.jpg"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "00000.tar", "00001.tar", "import.parquet",
    ]  # fmt: skip
    assert run_json(*arguments)["written"] == 0


def test_people_are_told_what_is_no_image(folder: Path, run: Run, tmp_path: Path) -> None:
    for number in range(MOST_ROWS):
        (folder / f"{number}.md").write_text("# notes")
    code, out = run("import", "images", folder, tmp_path / "out")
    assert code == 0
    assert "Not imported: 22" in out
    assert "… and 2 more, in import.parquet" in out
    assert "3 images" in out


def test_a_list_becomes_shards_its_paths_starting_at_its_folder_or_another(
    folder: Path, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    for place, prefix in ((folder, ""), (tmp_path, "in/")):
        (place / "list.csv").write_text(f"path,caption\n{prefix}2.png,two\n")
        told = run_json("import", "images", place / "list.csv", tmp_path / f"out{prefix}")
        assert (told["samples"], told["refused"]) == (1, [])
    moved = (folder / "list.csv").rename(tmp_path / "other.csv")
    out = tmp_path / "out2"
    assert run_json("import", "images", moved, out, "--root", folder)["samples"] == 1


def test_nothing_to_import_is_wrong_input(run: Run, tmp_path: Path) -> None:
    assert run("import", "images", tmp_path / "none", tmp_path / "out")[0] == 2
    assert run("import", "images", tmp_path / "none.csv", tmp_path / "out")[0] == 2
