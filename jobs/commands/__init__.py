"""Family: the sub-commands of ``curate``. One file per command."""

from collections.abc import Callable
from typing import Any

from jobs.commands.demo import demo
from jobs.commands.diff import diff
from jobs.commands.doctor import doctor
from jobs.commands.explain import explain_sample
from jobs.commands.index import index
from jobs.commands.preview import preview
from jobs.commands.release import release
from jobs.commands.report import report
from jobs.commands.run import run
from jobs.commands.status import status
from jobs.commands.takedown import takedown
from jobs.commands.train_probe import train_probe
from jobs.commands.ui import ui
from jobs.commands.verify import verify

COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "run": run,
    "status": status,
    "explain": explain_sample,
    "preview": preview,
    "diff": diff,
    "report": report,
    "release": release,
    "takedown": takedown,
    "verify": verify,
    "index": index,
    "doctor": doctor,
    "train-probe": train_probe,
    "ui": ui,
}
