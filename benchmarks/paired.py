"""Measure programs side by side: ours in this process, a peer's in a Python of its own.

A peer often needs packages that don't go with ours, so it lives in its own environment.
``peer_loops.py`` is run there and does one measurement each time it is told to; rounds
take turns, so that what else the machine does hits both.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEER_LOOPS = Path(__file__).with_name("peer_loops.py")


@dataclass(frozen=True)
class Measured:
    """One measurement."""

    samples: int
    wall_seconds: float
    cpu_seconds: float
    """Of all threads and of ended worker processes."""
    peak_mb: float = 0.0
    imported_mb: float = 0.0
    """Of the peak, what was there before the loop began."""

    @property
    def per_second(self) -> float:
        """Samples per second of wall time."""
        return self.samples / self.wall_seconds

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of one sample."""
        return self.cpu_seconds / self.samples * 1e6


def measure(loop: Callable[[], int]) -> Measured:
    """Run a loop that returns how many samples it had."""
    gc.collect()
    cpu, wall = _cpu(), time.perf_counter()
    samples = loop()
    wall = time.perf_counter() - wall
    return Measured(samples, wall, _cpu() - cpu)


class Peer:
    """A peer's Python, waiting to be told what to measure."""

    def __init__(self, python: str, source: str | None = None) -> None:
        """Start it; ``source`` is a folder that its packages are imported from too."""
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(PEER_LOOPS)],
            env=os.environ | ({"PYTHONPATH": source} if source else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def measure(self, loop: str, **settings: Any) -> Measured:
        """Run one of the loops in ``peer_loops.py``."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"loop": loop} | settings) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"the peer's Python ended while it measured {loop}")
        return Measured(**json.loads(answer))

    def close(self) -> None:
        """End the peer's process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def take_turns(
    loops: Mapping[str, Callable[[], Measured]], rounds: int
) -> dict[str, list[Measured]]:
    """Measure every loop once a round, after one round that does not count."""
    found: dict[str, list[Measured]] = {name: [] for name in loops}
    for turn in range(rounds + 1):
        for name, loop in loops.items():
            measured = loop()
            if turn:
                found[name].append(measured)
    return found


def print_rates(title: str, found: Mapping[str, list[Measured]]) -> None:
    """Print medians: samples a second and CPU time for each."""
    print(f"\n{title}")
    for name, rounds in found.items():
        rate = statistics.median(m.per_second for m in rounds)
        cpu = statistics.median(m.cpu_microseconds for m in rounds)
        print(f"  {name:<52} {rate:>11,.0f} samples/s {cpu:>9.2f} us CPU")


def print_ratio(
    found: Mapping[str, list[Measured]], ours: str, theirs: str, bar: float | None = None
) -> None:
    """Print the median over rounds of how many times as fast as another one is."""
    pairs = zip(found[ours], found[theirs], strict=True)
    ratio = statistics.median(a.per_second / b.per_second for a, b in pairs)
    wanted = "" if bar is None else f"  (bar: {bar:g}x)"
    print(f"  {ours} is {ratio:.2f}x {theirs}{wanted}")


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
