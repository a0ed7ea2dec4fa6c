"""Show what writing a filtered shard costs, against ``cp``, webdataset and re-encoding.

Timed is all that a filtered shard needs once its raw shard is indexed: copying the kept
members, the new index, and the text of the ``.idx``. Peers:

- ``cp``, where all is kept. ``--reflink=never`` makes it write, where a file system could
  share the blocks. It makes no index, so our tar without one stands beside it.
- ``TarWriter``: webdataset's, given the samples' bytes in memory, so that its writing alone
  is timed; and fed by webdataset's reader, as its users run it.
- ``decode, JPEG 92``: each image decoded and encoded again, as NeMo Curator's image writer
  does. Its own reader decodes with DALI; here Pillow does both, on one core.

Every round runs all of them one after the other; rates are medians, ratios medians over
rounds. Files stay in the page cache, and nothing waits for the disk.

    python benchmarks/reshard.py            # shards of 140 and 500 MB; 600 photographs
    python benchmarks/reshard.py --quick    # a tenth of that
"""

import argparse
import io
import multiprocessing
import resource
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import webdataset
from photographs import read_photographs
from PIL import Image

from curation.dali_index import format_index
from curation.index import ShardIndex, build_index
from curation.reshard import reshard
from curation.storage import LocalStorage
from curation.tar import read_members

SMALL = {"jpg": 3_000, "json": 200, "txt": 60}  # bytes
LARGE = {"jpg": 100_000}
QUALITY = 92  # NeMo Curator's


@dataclass(frozen=True)
class Case:
    """One raw shard, and which of its samples are kept."""

    folder: Path
    index: ShardIndex
    kept: np.ndarray
    samples: tuple[dict[str, bytes], ...]
    """The kept ones, as webdataset takes them."""


Way = Callable[[Case], object]


def main() -> None:
    """Time all ways on all kinds of shards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    tenth = 10 if options.quick else 1
    photographs = read_photographs(None)[:: 4 if options.quick else 1]
    kinds = {
        "3 small members": [made(SMALL, number) for number in range(10_000 // tenth)],
        "100 kB members": [made(LARGE, number) for number in range(5_000 // tenth)],
        "photographs": [{"jpg": data} for data in photographs],
    }
    print(f"{'samples':26}{'kept':>5}  {'way':24}{'MB/s':>8}{'ours is':>9}  bar")
    for name, contents in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            source = write_shard(Path(folder), contents)
            for fraction in (1.0,) if name == "photographs" else (1.0, 0.5, 0.05):
                case = make_case(source, contents, fraction)
                title = f"{len(contents):,} of {name}"
                report(title, fraction, case, bars(name, fraction), options.rounds)
            if name == "100 kB members":
                report_memory(source)


def bars(name: str, fraction: float) -> dict[str, float]:
    """Give how many times as fast as each way this package has to be."""
    if name == "photographs":
        return {"decode, JPEG 92": 20}
    limits = {"TarWriter": 0.0, "webdataset to TarWriter": 0.0}
    if fraction == 1:
        limits |= {"cp --reflink=never": 1, "ours, the tar alone": 0}
    if fraction == 0.5:
        limits["TarWriter"] = 3 if name == "100 kB members" else 12
    return limits


def report(
    title: str, fraction: float, case: Case, bars: Mapping[str, float], num_rounds: int
) -> None:
    """Time the ways in turns; print rates of output and paired ratios."""
    ways = {"ours": ours, **{name: WAYS[name] for name in bars}}
    rounds = [
        {name: seconds(way, case) for name, way in ways.items()}
        for _ in range(num_rounds + 1)
    ][1:]
    ours_bytes = (case.folder / "ours.tar").stat().st_size
    for name in ways:
        rate = statistics.median(ours_bytes / r[name] for r in rounds) / 1e6
        ratio = statistics.median(r[name] / r["ours"] for r in rounds)
        bar = f"{bars[name]:g}x" if bars.get(name) else ""
        against = "" if name == "ours" else f"{ratio:8.1f}x"
        print(
            f"{title:26}{fraction:5.0%}  {name:24}{rate:8.0f}{against:>9}  {bar}",
            flush=True,
        )


def seconds(way: Way, case: Case) -> float:
    """Time one way, after its last output is gone."""
    for old in case.folder.glob("*.tar"):
        if old.name != "raw.tar" and old.stem == way.__name__:
            old.unlink()
    began = time.perf_counter()
    way(case)
    return time.perf_counter() - began


def report_memory(folder: Path) -> None:
    """Print by how much the memory of a process grows while it copies a whole shard."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        grown, copied = pool.apply(memory_of_copying, (folder,))
    print(f"memory grows by {grown / 1e6:.1f} MB while {copied / 1e6:,.0f} MB are copied")


def memory_of_copying(folder: Path) -> tuple[int, int]:
    """Tell how many bytes the peak of this process grew by, and how many were copied."""
    storage = LocalStorage(folder)
    index = build_index(read_members(storage, "raw.tar"))
    half = np.arange(len(index)) % 2 == 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    copied = reshard(storage, index, half, storage, "memory.tar").file.size
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * 1024, copied


def ours(case: Case) -> None:
    """Copy members, and index the new shard."""
    storage = LocalStorage(case.folder)
    filtered = reshard(storage, case.index, case.kept, storage, "ours.tar")
    storage.write("ours.idx", format_index(filtered))


def tar_alone(case: Case) -> None:
    """Copy members; what is left of the rest is arithmetic for the index."""
    storage = LocalStorage(case.folder)
    reshard(storage, case.index, case.kept, storage, "tar_alone.tar")


def cp(case: Case) -> None:
    """Copy the whole file."""
    command = ["cp", "--reflink=never", "raw.tar", "cp.tar"]
    subprocess.run(command, cwd=case.folder, check=True)


def tar_writer(case: Case) -> None:
    """Write samples from memory."""
    with webdataset.TarWriter(str(case.folder / "tar_writer.tar")) as tar:
        for sample in case.samples:
            tar.write(sample)


def webdataset_to_tar_writer(case: Case) -> None:
    """Read with webdataset, write what is kept."""
    samples = webdataset.WebDataset(str(case.folder / "raw.tar"), shardshuffle=False)
    target = str(case.folder / "webdataset_to_tar_writer.tar")
    with webdataset.TarWriter(target) as tar:
        for sample, kept in zip(samples, case.kept, strict=True):
            if kept:
                tar.write(sample)


def decode_and_encode(case: Case) -> None:
    """Decode every image to an array and encode it again."""
    with tarfile.open(case.folder / "decode_and_encode.tar", "w") as tar:
        for sample in case.samples:
            pixels = np.asarray(Image.open(io.BytesIO(sample["jpg"])).convert("RGB"))
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
            add(tar, f"{sample['__key__']}.jpg", buffer.getvalue())


WAYS: dict[str, Way] = {
    "ours, the tar alone": tar_alone,
    "cp --reflink=never": cp,
    "TarWriter": tar_writer,
    "webdataset to TarWriter": webdataset_to_tar_writer,
    "decode, JPEG 92": decode_and_encode,
}


def made(sizes: Mapping[str, int], seed: int) -> dict[str, bytes]:
    """Make one sample's components of random bytes."""
    random = Random(seed)
    return {extension: random.randbytes(size) for extension, size in sizes.items()}


def write_shard(folder: Path, contents: list[dict[str, bytes]]) -> Path:
    """Write a raw shard with plain headers."""
    with tarfile.open(folder / "raw.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, components in enumerate(contents):
            for extension, data in components.items():
                add(tar, f"{number:09d}.{extension}", data)
    return folder


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append one member."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def make_case(folder: Path, contents: list[dict[str, bytes]], fraction: float) -> Case:
    """Keep a fraction of the samples, scattered at random."""
    kept = np.random.default_rng(0).random(len(contents)) < fraction
    samples = tuple(
        {"__key__": f"{number:09d}", **contents[number]} for number in np.flatnonzero(kept)
    )
    index = build_index(read_members(LocalStorage(folder), "raw.tar"))
    return Case(folder, index, kept, samples)


if __name__ == "__main__":
    main()
