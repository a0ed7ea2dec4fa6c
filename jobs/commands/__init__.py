"""Family: the sub-commands of ``curate``. One file per command."""

from collections.abc import Callable
from typing import Any

from jobs.commands.calibrate import calibrate
from jobs.commands.costs import costs
from jobs.commands.demo import demo
from jobs.commands.diff import diff
from jobs.commands.doctor import doctor
from jobs.commands.explain import explain_sample
from jobs.commands.export import export_for_clip_retrieval, export_for_nemo, export_npy
from jobs.commands.export_match import export_match
from jobs.commands.import_images import import_images
from jobs.commands.import_urls import import_listed_urls
from jobs.commands.index import index
from jobs.commands.keys import keys
from jobs.commands.preview import preview
from jobs.commands.prune import prune
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
    "costs": costs,
    "explain": explain_sample,
    "preview": preview,
    "diff": diff,
    "report": report,
    "keys": keys,
    "calibrate": calibrate,
    "release": release,
    "takedown": takedown,
    "prune": prune,
    "verify": verify,
    "index": index,
    "doctor": doctor,
    "train-probe": train_probe,
    "ui": ui,
}

GROUPS: dict[str, dict[str, Callable[..., Any]]] = {
    "import": {"images": import_images, "urls": import_listed_urls},
    "export": {
        "npy": export_npy,
        "clip-retrieval": export_for_clip_retrieval,
        "nemo": export_for_nemo,
        "match": export_match,
    },
}
"""Commands with sub-commands of their own."""

GROUP_HELP = {
    "import": "Write raw shards from image files, or from a list of URLs.",
    "export": "Write filtered shards, or their vectors, as other programs read them.",
}
