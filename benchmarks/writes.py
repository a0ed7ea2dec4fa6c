"""What it costs that files are on the disk before they are named (``storage/local.py``).

The same files are written with and without ``fsync``, in turns: thousands of small ones,
as indexes and tables are, by one thread and by several, and some large ones, as tars are.
Without, nothing has reached the disk when the clock stops, so the difference is the disk's
own time, which other work hides where it can: see ``release.py`` for a whole step.

    python benchmarks/writes.py
    python benchmarks/writes.py --quick
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from curation.storage import LocalStorage

WAYS = {
    "4,000 files of 20 kB": (4_000, 20_000, 1),
    "4,000 files of 20 kB, 4 threads": (4_000, 20_000, 4),
    "8 files of 100 MB, 4 threads": (8, 100_000_000, 4),
}
"""Files, bytes of each, threads."""


def main() -> None:
    """Time all sizes, with and without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="on the disk to be measured")
    options = parser.parse_args()
    for name, (count, size, threads) in WAYS.items():
        few = max(count // 10, 2) if options.quick else count
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            compare(name, Path(folder) / "written", few, size, threads, options.rounds)


def compare(
    name: str, folder: Path, count: int, size: int, threads: int, rounds: int
) -> None:
    """Print milliseconds a file for both ways, medians, and the median of their ratios."""
    data = os.urandom(size)

    def write() -> None:
        storage = LocalStorage(folder)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda n: storage.write(f"{n:06d}", data), range(count)))

    def write_without() -> None:
        with mock.patch("os.fsync"):
            write()

    with_sync, without = [], []
    for turn in range(rounds + 1):
        found = [timed(folder, way) for way in (write, write_without)]
        if turn:
            with_sync.append(found[0])
            without.append(found[1])
    ratio = statistics.median(a / b for a, b in zip(with_sync, without, strict=True))
    print(
        f"{name:34} {statistics.median(with_sync) / count * 1e3:8.3f} ms a file, without "
        f"fsync {statistics.median(without) / count * 1e3:8.3f} ms: {ratio:.2f}x"
    )


def timed(folder: Path, write: Callable[[], None]) -> float:
    """Give the seconds that writing into a folder takes; what others wrote is synced."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    write()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
