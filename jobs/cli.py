"""The ``curate`` command; its sub-commands are in ``jobs/commands``, one file each."""

import sys
from collections.abc import Sequence

import typer

from curation.errors import CurationError, ReleaseMismatchError, StorageError
from jobs.commands import COMMANDS, GROUP_HELP, GROUPS
from jobs.exit_codes import EXIT_DIFFERENCE, EXIT_STORAGE, EXIT_WRONG_INPUT

HELP = """Curate shards of images and captions into a training set.

Exit codes: 0 done · 1 a fault of this program · 2 the call, a setting or an input is
wrong · 3 done, but some shards could not be read or made · 4 storage failed, and may come
back · 5 a check found a difference. With `--json`, standard output is one JSON document.
"""

app = typer.Typer(
    name="curate",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, commands in GROUPS.items():
    group = typer.Typer(
        help=GROUP_HELP[name], no_args_is_help=True, rich_markup_mode="markdown"
    )
    for sub_name, command in commands.items():
        group.command(sub_name)(command)
    app.add_typer(group, name=name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error that is the user's to mend is told in one screen."""
    try:
        app(arguments)
    except CurationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(exit_code(error))


def exit_code(error: CurationError) -> int:
    """Give the exit code that an error ends the command with."""
    if isinstance(error, StorageError):
        return EXIT_STORAGE
    if isinstance(error, ReleaseMismatchError):
        return EXIT_DIFFERENCE
    return EXIT_WRONG_INPUT
