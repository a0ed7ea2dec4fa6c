"""What is wrong with a recipe as a whole, told before anything runs."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from curation.errors import CurationError, InputError, NotFoundError, UnknownNameError
from curation.recipe import Recipe, load_recipe
from jobs.recipe_check import check_ready, check_recipe

PROBE = {"probe": {"type": "linear_probe", "weights": "probe.safetensors"}}


def recipe(**settings: Any) -> Recipe:
    base = {"name": "test", "source": "/data/raw", "output": "/data/made"}
    return Recipe.model_validate(base | settings)


def test_a_recipe_that_fits_together_passes() -> None:
    check_recipe(recipe(classifiers=PROBE, filter="probe > 0.5 and width > 10"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"filter": "widht > 10"}, UnknownNameError, "did you mean width"),
        ({"filter": "probe > 0.5"}, UnknownNameError, "probe"),
        ({"filter": "caption > 5"}, InputError, "caption"),
        ({"filter": "width"}, InputError, "width"),
        ({"classifiers": {"x": {"type": "nonesuch"}}}, UnknownNameError, "linear_probe"),
        ({"classifiers": {"width": PROBE["probe"]}}, InputError, "already"),
        ({"duplicates": {"prefer": ["beauty desc"]}}, UnknownNameError, "pixels"),
        ({"duplicates": {"prefer": ["pixels up"]}}, InputError, "pixels up"),
        (
            {
                "duplicates": {"prefer": ["passes_filter desc"]},
                "filter": "top_fraction(width, 0.5)",
            },
            InputError,
            r"top_fraction\(width, 0.5\), which is found when copies are gone",
        ),
        ({"duplicates": {"exact": "pixels"}}, InputError, "images.hash_pixels: true"),
        ({"output": "/data/raw/made"}, InputError, "within the source"),
        ({"output": "/data/raw"}, InputError, "within the source"),
        ({"source": "s3://b/raw", "output": "s3://b/raw/x"}, InputError, "within"),
        (
            {"imports": {"images": {"mine": {"folder": "/data"}}}},
            InputError,
            r"imports\.images\.mine\.folder: /data and /data/raw.* take them apart",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    settings: dict[str, Any], error: type[CurationError], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_recipe(recipe(**settings))


def test_a_folder_beside_the_source_is_a_good_output() -> None:
    check_recipe(recipe(output="/data/raw-filtered"))


def test_weights_are_looked_for_only_as_far_as_they_are_needed(tmp_path: Path) -> None:
    ready = recipe(classifiers=PROBE, output=str(tmp_path))
    check_ready(ready, until="embeddings")
    with pytest.raises(NotFoundError, match=r"probe\.safetensors"):
        check_ready(ready, until="scores")


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="file"):
        check_ready(recipe(output=str(tmp_path / "file" / "x")), until="shard_index")


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_ready(recipe(output=str(tmp_path)), until="shard_index")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("filter: width > 5 and widht > 5", 4),
        ("filter: 'width > 5 and widht > 5'  # a comment", 4),
        ("filter: >-\n  width > 5\n\n  and widht > 5\n  and true", 7),
        ("filter: |\n  width > 5\n  and height > 5 and\n  widht > 5", 7),
        ("filter:\n  width > 5\n  and widht\n  > 5", 6),
        ('release:\n  where: "widht > 5"', 5),
        ("release:\n  repeats:\n    width > 5: 2\n    widht > 5: 3", 7),
        ("filter: widht >\n  5", 4),
    ],
)
def test_a_mistake_in_an_expression_is_told_with_the_recipes_line(
    tmp_path: Path, written: str, line: int
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\nsource: raw\noutput: out\n{written}\n")
    with pytest.raises(UnknownNameError) as caught:
        check_recipe(load_recipe(file))
    message, shown, caret = str(caught.value).split("\n")
    setting = "filter" if written.startswith("filter") else "release."
    assert message.startswith(f"{file}:{line}: {setting}")
    assert "There is no column 'widht'; did you mean" in message
    assert shown[caret.index("^") :].startswith("widht")


def test_recipes_are_equal_wherever_they_are_written(tmp_path: Path) -> None:
    text = "name: mine\nsource: /raw\noutput: /out\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(f"# a comment\n{text}")
    assert load_recipe(tmp_path / "a.yaml") == load_recipe(tmp_path / "b.yaml")
    assert pickle.loads(pickle.dumps(load_recipe(tmp_path / "a.yaml"))).name == "mine"
