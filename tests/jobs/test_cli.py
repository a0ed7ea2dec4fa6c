"""The command as a whole: errors of one screen, and what its exit codes say."""

from pathlib import Path

import pytest

from curation.errors import (
    CurationError,
    InputError,
    NotFoundError,
    ReleaseMismatchError,
    StaleError,
    StorageError,
)
from jobs.cli import exit_code, main
from jobs.commands import COMMANDS, GROUPS


def run(*arguments: str) -> int:
    """Run the command, and give its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (NotFoundError("x"), 2),
        (StorageError("x"), 4),
        (ReleaseMismatchError("x", path="y"), 5),
        (StaleError("x"), 2),
    ],
)
def test_an_error_decides_the_exit_code(error: CurationError, code: int) -> None:
    assert exit_code(error) == code


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in (*COMMANDS, *GROUPS))
    assert "Exit codes" in told


@pytest.mark.parametrize(
    "words",
    [(name,) for name in (*COMMANDS, *GROUPS)]
    + [(name, sub) for name, commands in GROUPS.items() for sub in commands],
    ids=" ".join,
)
def test_every_command_has_help(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_a_mistake_in_the_recipe_is_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\nsource: raw\noutput: out\nfilterr: 'true'\n")
    assert run("run", "--recipe", str(recipe)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {recipe}:4: filterr: ")
    assert "did you mean filter" in told
    assert "Traceback" not in told


def test_a_source_without_tars_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\nsource: raw\noutput: out\n")
    assert run("run", "--recipe", str(recipe)) == 2
    assert "there is no .tar file in this folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
