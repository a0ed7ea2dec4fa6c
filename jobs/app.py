"""The sub-commands of ``curate`` put together; each is a file of ``jobs/commands``."""

import typer

from jobs.commands import COMMANDS, GROUP_HELP, GROUPS

HELP = """Curate shards of images and captions into a training set.

Exit codes: 0 done · 1 a fault of this program · 2 the call, a setting or an input is
wrong · 3 done, but some shards could not be read or made · 4 storage failed, and may come
back · 5 a check found a difference · 130, 143 stopped by Ctrl-C or a signal. With
`--json`, standard output is one JSON document.
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
