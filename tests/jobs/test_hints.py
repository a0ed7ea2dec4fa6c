"""Advice can be copied: it has the recipe that the command was given."""

from pathlib import Path

import pytest
import typer

from jobs.app import app
from jobs.hints import TAKE_A_RECIPE, remember_recipe, with_recipe


@pytest.mark.parametrize(
    ("text", "with_option"),
    [
        ("run `curate run` first", "run `curate run --recipe 'my own.yaml'` first"),
        (
            "curate run --until embeddings",
            "curate run --recipe 'my own.yaml' --until embeddings",
        ),
        ("`curate export npy out`", "`curate export npy --recipe 'my own.yaml' out`"),
        ("curate train-probe", "curate train-probe --recipe 'my own.yaml'"),
        ("curate run --recipe x", "curate run --recipe x"),
        ("curate verify FOLDER, curate runner, curate", None),
    ],
)
def test_advice_names_the_recipe(text: str, with_option: str | None) -> None:
    remember_recipe(Path("my own.yaml"))
    assert with_recipe(text) == (with_option or text)
    remember_recipe(Path("recipe.yaml"))
    assert with_recipe(text) == text


def test_all_commands_with_the_option_are_known() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    taking = {
        name
        for name, command in commands.items()
        if any("--recipe" in parameter.opts for parameter in command.params)
    }
    assert set(TAKE_A_RECIPE) == taking
