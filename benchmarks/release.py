"""Show what a release costs, against copying and hashing the same files, and webdataset.

A release re-packs and renumbers all samples, writes the new key into each ``.json``, makes
indexes and tables, reads every tar back, and hashes every file. Beside it, in every round:

- ``cp -r`` of the filtered shards, which does none of this.
- ``cp -r, sha256sum``: a copy whose files' hashes are known.
- ``webdataset``: its reader into its ``ShardWriter`` under new keys, without index, table
  or hash, and without the key in the ``.json``: how such a release is made by hand.
- ``ours, the next``: the release after one more filtered shard, which shares the tars that
  did not change.

Files stay in the page cache. Rates are of the filtered bytes, medians; ratios are medians
over rounds.

    python benchmarks/release.py            # 1 GB of 100 kB images, 100 MB of small ones
    python benchmarks/release.py --quick    # a tenth of that
    python benchmarks/release.py --base ../base    # this version and another, in turns
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
import pyarrow as pa
import webdataset

from curation.dali_index import format_index
from curation.index import build_index
from curation.recipe import Recipe
from curation.release.plan import plan_release
from curation.release.publish import ReleaseOptions, publish_release
from curation.release.sources import FilteredShard
from curation.reshard import describe_kept
from curation.storage import LocalStorage
from curation.tables import FILTERED, write_table
from curation.tar import read_members
from curation.testing.image_shards import make_tar

FOLDER = "filtered/bench"
KINDS = {"100 kB images": (100_000, 2_500), "3 kB images": (3_000, 6_000)}
"""Bytes of an image, and samples of a shard."""
NUM_SHARDS = 4
PLANNED = 1_000_000  # samples


def main() -> None:
    """Time all ways on both kinds of shards, and planning alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--base", help="a checkout of another version to compare with")
    options = parser.parse_args()
    for name, (image_bytes, samples) in KINDS.items():
        per_shard = samples // (10 if options.quick else 1)
        with tempfile.TemporaryDirectory() as folder:
            output = LocalStorage(Path(folder))
            for number in range(NUM_SHARDS + 1):
                write_filtered(output, f"{number:05d}", per_shard, image_bytes)
            if options.base:
                compare_versions(name, output, per_shard, options.rounds, options.base)
            else:
                compare(name, output, per_shard, options.rounds)
    if options.base:
        return
    time_planning(PLANNED // (10 if options.quick else 1))


def write_filtered(output: LocalStorage, shard: str, count: int, image_bytes: int) -> None:
    """Write one filtered shard of random images with captions and metadata."""
    random = Random(shard)
    members = []
    for number in range(count):
        key = f"{shard}{number:04d}"
        text = json.dumps({"url": f"https://example.org/{key}", "similarity": 0.3})
        members += [
            (f"{key}.jpg", random.randbytes(image_bytes)),
            (f"{key}.txt", f"a picture with the number {number}".encode()),
            (f"{key}.json", text.encode()),
        ]
    tar = f"{FOLDER}/{shard}.tar"
    output.write(tar, make_tar(members))
    index = build_index(read_members(output, tar))
    output.write(f"{FOLDER}/{shard}.idx", format_index(index))
    images = [data for name, data in members if name.endswith(".jpg")]
    crcs = [None if name.endswith(".jpg") else crc32(data) for name, data in members]
    facts = pa.table(
        {
            "key": index.keys,
            "image_extension": ["jpg"] * count,
            "sha256": [sha256(image).hexdigest() for image in images],
            "component_crc32": pa.array(
                [crcs[first : first + 3] for first in range(0, len(crcs), 3)],
                pa.list_(pa.uint32()),
            ),
            "format": ["jpeg"] * count,
            "image_bytes": pa.array([image_bytes] * count, pa.int64()),
            "width": pa.array([512] * count, pa.int32()),
            "height": pa.array([512] * count, pa.int32()),
        }
    )
    table = describe_kept(index, np.ones(count, bool), [facts], shard=shard)
    path = f"{FOLDER}/{shard}.parquet"
    write_table(output, path, FILTERED, table, fingerprint=shard, rows=shard)


def compare(name: str, output: LocalStorage, per_shard: int, rounds: int) -> None:
    """Run all ways in turns, and print rates and paired ratios."""
    files = output.list_files(FOLDER, suffix=".tar")[:NUM_SHARDS]
    size = sum(file.size for file in files)
    ways: dict[str, Callable[[], None]] = {
        "ours": lambda: release(output, per_shard, NUM_SHARDS),
        "cp -r": lambda: copy(output),
        "cp -r, sha256sum": lambda: copy(output, hashed=True),
        "webdataset": lambda: rewrite(output, per_shard),
        "ours, the next": lambda: release(output, per_shard, NUM_SHARDS + 1),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            if turn:
                found[way].append(time.perf_counter() - start)
        for made in ("releases", "copied", "rewritten"):
            shutil.rmtree(output.root / made, ignore_errors=True)
    print(f"\n{NUM_SHARDS} shards of {per_shard:,} {name}, {size / 1e6:,.0f} MB")
    for way, seconds in found.items():
        ratios = [a / b for a, b in zip(seconds, found["ours"], strict=True)]
        rate = size / 1e6 / statistics.median(seconds)
        ratio = statistics.median(ratios)
        print(f"  {way:20}{rate:>9,.0f} MB/s   takes {ratio:.2f}x the time of ours")


ONCE = """
import sys, time
from pathlib import Path
sys.path.insert(0, "benchmarks")
import release
from curation.storage import LocalStorage
output, per_shard = LocalStorage(Path(sys.argv[1])), int(sys.argv[2])
start = time.perf_counter()
release.release(output, per_shard, release.NUM_SHARDS)
print(time.perf_counter() - start)
"""


def compare_versions(
    name: str, output: LocalStorage, per_shard: int, rounds: int, base: str
) -> None:
    """Make the same release by this version and by another, in turns, each in a process."""
    files = output.list_files(FOLDER, suffix=".tar")[:NUM_SHARDS]
    size = sum(file.size for file in files)
    ours = str(Path(__file__).resolve().parents[1])
    found: dict[str, list[float]] = {ours: [], base: []}
    for turn in range(rounds + 1):
        for checkout, seconds in found.items():
            os.sync()  # what the one before left to be written is not this one's
            done = subprocess.run(
                [sys.executable, "-c", ONCE, str(output.root), str(per_shard)],
                cwd=checkout,
                env=os.environ | {"PYTHONPATH": checkout},
                capture_output=True,
                text=True,
                check=True,
            )
            shutil.rmtree(output.root / "releases")
            if turn:
                seconds.append(float(done.stdout))
    print(f"\n{NUM_SHARDS} shards of {per_shard:,} {name}, {size / 1e6:,.0f} MB")
    for checkout, seconds in found.items():
        rate = size / 1e6 / statistics.median(seconds)
        print(f"  {rate:>9,.0f} MB/s  {checkout}")
    ratio = statistics.median(a / b for a, b in zip(found[ours], found[base], strict=True))
    print(f"  ours takes {ratio:.2f}x the time of the other (bar: 1.1)")


def release(output: LocalStorage, per_shard: int, num_shards: int) -> None:
    """Make a release of the first filtered shards."""
    recipe = Recipe(
        name="bench",
        source="raw",
        output="out",
        release={"samples_per_shard": per_shard - 7},  # no tar is one of the filtered ones
    )
    shards = [f"{number:05d}" for number in range(num_shards)]
    publish_release(output, recipe, FOLDER, shards, ReleaseOptions(threads=2))


def copy(output: LocalStorage, *, hashed: bool = False) -> None:
    """Copy the filtered shards that are released, and hash what was copied."""
    target = output.root / "copied"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    files = [
        path
        for number in range(NUM_SHARDS)
        for path in (output.root / FOLDER).glob(f"{number:05d}.*")
    ]
    subprocess.run(["cp", "-r", "--reflink=never", *files, target], check=True)
    if hashed:
        copied = sorted(target.iterdir())
        subprocess.run(["sha256sum", *copied], check=True, stdout=subprocess.DEVNULL)


def rewrite(output: LocalStorage, per_shard: int) -> None:
    """Read and write all samples with webdataset, under new keys."""
    target = output.root / "rewritten"
    target.mkdir(exist_ok=True)
    tars = [str(output.root / FOLDER / f"{n:05d}.tar") for n in range(NUM_SHARDS)]
    samples = webdataset.WebDataset(tars, shardshuffle=False)
    most = per_shard - 7
    with webdataset.ShardWriter(
        str(target / "%05d.tar"), maxcount=most, maxsize=1 << 40, verbose=0
    ) as writer:
        for number, sample in enumerate(samples):
            kept = {k: v for k, v in sample.items() if not k.startswith("__")}
            key = f"{number // most:05d}{number % most:04d}"
            writer.write({"__key__": key, **kept})


def time_planning(count: int) -> None:
    """Print how long it takes to plan a release of many samples."""
    shards = [
        FilteredShard(
            f"{number:05d}",
            pa.array([f"{number:05d}{row:04d}" for row in range(10_000)]),
            np.full(10_000, 100_000),
            pa.nulls(10_000, pa.string()),
            rows="rows",
            source_version="version",
        )
        for number in range(count // 10_000)
    ]
    recipe = Recipe(name="bench", source="raw", output="out")
    start = time.perf_counter()
    plan = plan_release(shards, recipe.release)
    seconds = time.perf_counter() - start
    print(f"\na plan of {plan.num_samples:,} samples takes {seconds:.1f} s")


if __name__ == "__main__":
    main()
