"""Family: the sub-commands of ``curate``. One file per command."""

from collections.abc import Callable
from typing import Any

from jobs.commands.demo import demo
from jobs.commands.run import run

COMMANDS: dict[str, Callable[..., Any]] = {"demo": demo, "run": run}
