"""What harnesses of the whole pipeline tried, and what came of it."""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tried:
    """What was tried, and what came of it."""

    chains: int = 0
    made: Counter[str] = field(default_factory=Counter)
    """How often each kind of disturbance was made."""
    faults: list[str] = field(default_factory=list)
    """What should never be; each begins with ``lost``, ``false`` or ``blocked``."""

    @property
    def told(self) -> str:
        """Count the faults of each kind."""
        counts = Counter(fault.partition(":")[0] for fault in self.faults)
        return ", ".join(f"{kind} {counts[kind]}" for kind in ("lost", "false", "blocked"))

    def fault(self, kind: str, chain: object, text: str) -> None:
        """Note and print what should never be."""
        self.faults.append(f"{kind}: chain {chain}: {text}")
        print(self.faults[-1], flush=True)


def print_tries(
    try_often: Callable[[Path, int, int], Tried], about: str, what: str, times: int
) -> None:
    """Try as often as the command line says, and print what came of it.

    Args:
        try_often: Called with an empty folder, how often, and what is drawn from.
        about: What it does, for ``--help``.
        what: Name of what is counted.
        times: How often by default.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(what, type=int, nargs="?", default=times)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tried = try_often(Path(folder), getattr(asked, what), asked.seed)
    for kind, count in sorted(tried.made.items()):
        print(f"{count:6} {kind}")
    print(tried)
    raise SystemExit(bool(tried.faults))
