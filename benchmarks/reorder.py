"""How fast are embeddings brought into the order of their shards, and in what memory?

clip-retrieval's output for 20 shards of 10,000, in the order in which it leaves its
workers (batches of 64 from shards by turns), once in 4 parts and once in a single part.
Each measurement has a fresh process; peak memory is the process's, imports and all. The
floor is ``cp`` of the same bytes.

    python benchmarks/reorder.py [--rows 200000] [--quick]
        [--peer-python PYTHON --peer-source CHECKOUT]

The peer is embedding-dataset-reordering, which is not on PyPI: a checkout of it, and a
Python with ``"pandas<2" "numpy<2" "pyarrow<16" fsspec tqdm plotext``. Its output is wrong
where shards are spread over parts, so here none is. Bars: at least as fast, at half its
peak.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from paired import Measured, Peer, measure, print_rates, print_ratio, take_turns

DIM = 512
NUM_SHARDS = 20
BATCH = 64
ROUNDS = 5


def make_parts(folder: Path, rows: int, num_parts: int) -> int:
    """Write parts as clip-retrieval leaves them; return the width of indices in keys."""
    per_shard = rows // NUM_SHARDS
    width = len(str(per_shard - 1))
    rng = np.random.default_rng(0)
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    for part in range(num_parts):
        shards = np.arange(NUM_SHARDS)[part::num_parts]
        order = interleaved(len(shards), per_shard)
        vectors = rng.standard_normal((len(order), DIM), np.float32).astype(np.float16)
        np.save(folder / "img_emb" / f"img_emb_{part}.npy", vectors)
        keys = [f"{shards[shard]:05d}{index:0{width}d}" for shard, index in order]
        captions = [f"a caption of {key}" for key in keys]
        table = pa.table({"image_path": keys, "caption": captions})
        pq.write_table(table, folder / "metadata" / f"metadata_{part}.parquet")
    return width


def interleaved(num_shards: int, per_shard: int) -> np.ndarray:
    """Give (shard, index) pairs: batches from all shards by turns."""
    starts = np.arange(0, per_shard, BATCH)
    batches = [
        [(shard, index) for index in range(start, min(start + BATCH, per_shard))]
        for start in starts
        for shard in range(num_shards)
    ]
    return np.array([pair for batch in batches for pair in batch])


def in_a_fresh_process(
    python: str, source: str, loop: str, folder: Path, width: int, rows: int
) -> Measured:
    """Run one loop of ``peer_loops.py`` and forget its output."""
    output = folder / "output"
    output.mkdir()
    peer = Peer(python, source)
    found = peer.measure(loop, folder=str(folder), output=str(output), index_width=width)
    peer.close()
    if len(list(output.glob("*.npy"))) != NUM_SHARDS:
        sys.exit(f"{loop} did not write {NUM_SHARDS} files")
    shutil.rmtree(output)
    return replace(found, samples=rows)


def copied(folder: Path, rows: int) -> int:
    """Copy the vectors as they are."""
    shutil.copytree(folder / "img_emb", folder / "copy")
    shutil.rmtree(folder / "copy")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, 2 rounds")
    parser.add_argument("--peer-python", help="a Python with pandas<2")
    parser.add_argument("--peer-source", help="a checkout of embedding-dataset-reordering")
    arguments = parser.parse_args()
    rows, rounds = (20_000, 2) if arguments.quick else (arguments.rows, ROUNDS)
    here = str(Path(__file__).parents[1])
    for num_parts in (4, 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            width = make_parts(folder, rows, num_parts)
            once = partial(in_a_fresh_process, folder=folder, width=width, rows=rows)
            loops: dict[str, Callable[[], Measured]] = {
                "ours": partial(once, sys.executable, here, "reorder_ours"),
                "cp": lambda folder=folder: measure(lambda: copied(folder, rows)),
            }
            if arguments.peer_python:
                python, source = arguments.peer_python, arguments.peer_source
                loops["theirs"] = partial(once, python, source, "reorder_theirs")
            show(
                take_turns(loops, rounds), f"{rows:,} x {DIM} float16 in {num_parts} parts"
            )


def show(found: dict[str, list[Measured]], title: str) -> None:
    """Print rates, ratios and peaks."""
    print_rates(title, found)
    print_ratio(found, "ours", "cp")
    if "theirs" in found:
        print_ratio(found, "ours", "theirs", 1)
    whole = {name: median(m.peak_mb for m in found[name]) for name in found}
    own = {n: median(m.peak_mb - m.imported_mb for m in found[n]) for n in found}
    for title, peaks in (("peak", whole), ("beyond what was imported", own)):
        print(f"  {title}: ours {peaks['ours']:.0f} MB", end="")
        if "theirs" in found:
            share = peaks["ours"] / peaks["theirs"]
            print(
                f", theirs {peaks['theirs']:.0f} MB: {share:.2f} of it  (bar: 0.5)", end=""
            )
        print()


if __name__ == "__main__":
    main()
