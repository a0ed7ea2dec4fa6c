"""Show what indexing a shard costs, against DALI's ``wds2idx`` and against the floor.

The whole of it is timed: finding all members, verifying every checksum, putting samples
together, the catalog, and the text of the ``.idx``. The floor reads each header once with
``os.pread`` and follows the sizes; it checks nothing and writes nothing. ``wds2idx`` is
timed as its users run it, and once more without the start of its Python. Every round
times all of them one after the other, and ratios are medians over rounds.

    python benchmarks/index.py            # 30,000 members; 0.3 to 1 GB in the temp folder
    python benchmarks/index.py --quick    # 3,000 members
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import wds2idx
import webdataset

from curation.dali_index import format_index
from curation.index import build_index
from curation.storage import LocalStorage
from curation.tar import read_members

COMPONENTS = {"jpg": 12_000, "json": 200, "txt": 60}  # bytes


def main() -> None:
    """Time all ways of indexing on all kinds of tars, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    num_samples = 1_000 if options.quick else 10_000
    print(f"{'tar':40}{'way':22}{'us/member':>10}{'x wds2idx':>11}{'x floor':>9}")
    for name, write in TARS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shard.tar"
            num_members = write(path, num_samples)
            report(f"{name}, {num_members:,} members", path, num_members, options.rounds)


def report(name: str, path: Path, num_members: int, num_rounds: int) -> None:
    """Time every way in every round; print medians, and medians of paired ratios."""
    rounds = [
        {way: seconds(run, path) for way, run in WAYS.items()} for _ in range(num_rounds)
    ]
    if path.with_suffix(".idx").read_bytes() != ours(path):
        raise SystemExit("our index differs from that of wds2idx")
    for way in WAYS:
        micros = statistics.median(r[way] for r in rounds) / num_members * 1e6
        faster = statistics.median(r["wds2idx"] / r[way] for r in rounds)
        slower = statistics.median(r[way] / r["floor"] for r in rounds)
        print(f"{name:40}{way:22}{micros:10.2f}{faster:11.1f}{slower:9.2f}", flush=True)


def seconds(run: Callable[[Path], object], path: Path) -> float:
    """Time one call."""
    began = time.perf_counter()
    run(path)
    return time.perf_counter() - began


def ours(path: Path) -> bytes:
    """Index a shard with this package."""
    members = read_members(LocalStorage(path.parent), path.name)
    return format_index(build_index(members))


def floor(path: Path) -> int:
    """Read every header once, each where the one before it says."""
    descriptor, position, num_headers = os.open(path, os.O_RDONLY), 0, 0
    while (header := os.pread(descriptor, 512, position))[0]:
        position += 512 + ((int(header[124:135], 8) + 511) & -512)
        num_headers += 1
    os.close(descriptor)
    return num_headers


def wds2idx_command(path: Path) -> None:
    """Run DALI's console script."""
    script = Path(sys.executable).with_name("wds2idx")
    arguments = [script, path, path.with_suffix(".idx")]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)


def wds2idx_class(path: Path) -> None:
    """Run what the script runs, in this process."""
    with wds2idx.IndexCreator(str(path), os.devnull, verbose=False) as creator:
        creator.create_index()


def tarfile_list(path: Path) -> int:
    """List the members with Python's library."""
    with tarfile.open(path) as tar:
        return len(tar.getmembers())


def gnu_tar_list(path: Path) -> None:
    """List the names with GNU tar."""
    subprocess.run(["tar", "-tf", path], check=True, stdout=subprocess.DEVNULL)


WAYS: dict[str, Callable[[Path], object]] = {
    "ours": ours,
    "floor": floor,
    "wds2idx": wds2idx_command,
    "wds2idx in process": wds2idx_class,
    "tarfile": tarfile_list,
    "tar -tf": gnu_tar_list,
}


def write_ustar(path: Path, num_samples: int) -> int:
    """Write samples of three components with plain headers."""
    random = Random(0)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(num_samples):
            for extension, size in COMPONENTS.items():
                add(tar, f"{number:09d}.{extension}", random.randbytes(size))
    return len(COMPONENTS) * num_samples


def write_webdataset(path: Path, num_samples: int) -> int:
    """Write the same with webdataset, which puts a pax header before every member."""
    random = Random(0)
    with webdataset.TarWriter(str(path)) as tar:
        for number in range(num_samples):
            contents = {e: random.randbytes(size) for e, size in COMPONENTS.items()}
            tar.write({"__key__": f"{number:09d}", **contents})
    return len(COMPONENTS) * num_samples


def write_images(path: Path, num_samples: int) -> int:
    """Write images of 100 kB alone."""
    data = Random(0).randbytes(100_000)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(num_samples):
            add(tar, f"{number:09d}.jpg", data)
    return num_samples


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append one member."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


TARS: dict[str, Callable[[Path, int], int]] = {
    "plain ustar": write_ustar,
    "webdataset's TarWriter": write_webdataset,
    "images of 100 kB": write_images,
}

if __name__ == "__main__":
    main()
