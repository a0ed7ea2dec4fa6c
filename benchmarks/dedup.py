"""Show what semantic deduplication finds and costs beside SemDeDup's rule and brute force.

Vectors lie in a cone around topics, as embeddings of pictures do; of some, copies are
planted at cosines around the threshold. Three programs take the same vectors in memory:

- ours, ``find_semantic_duplicates``;
- SemDeDup's rule: k-means on the raw vectors, and in each cell a row goes if any row before
  it is similar, kept or not;
- the greedy leader by brute force, which is the right answer (up to 200,000 rows).

"Lone" rows were removed though no kept row is like them; "missed" rows were kept though a
kept row is. Both are counted by brute force, of 20,000 and 5,000 rows at most. "Recall" is
of planted pairs: that not both are kept. Then one shard more is added to a state on
disk, the whole decision is taken again with it, and its recall is estimated. Times are
CPU seconds of one process with one thread, peak memory is beyond the vectors, on a machine
without a GPU.

    python benchmarks/dedup.py [--quick] [--rows 100000,200000] [--seed 1]
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch

from curation.dedup import (
    CellSettings,
    ComparedShards,
    Rule,
    ShardVectors,
    StateSettings,
    add_shards,
    compare_bin,
    create_state,
    current_ordinals,
    estimate_missed,
    find_duplicates,
    find_semantic_duplicates,
    fit_centroids,
    pending_bins,
)
from curation.dedup.rows import ordinals, rows_in_shard
from curation.storage import LocalStorage

DIM = 512
THRESHOLD = 0.95
BRUTE_FORCE_ROWS = 200_000
NUM_SHARDS = 20

T = TypeVar("T")


@dataclass(frozen=True)
class Planted:
    """Vectors with known pairs."""

    vectors: np.ndarray
    rank: np.ndarray
    pairs: np.ndarray
    """``(P, 2)`` rows of which the second was made from the first, similar enough."""


def planted(num_rows: int, seed: int) -> Planted:
    """Make vectors, 15% of which are copies of another."""
    rng = np.random.default_rng(seed)
    num_copies = round(0.15 * num_rows)
    num_base = num_rows - num_copies
    cone = unit(rng.standard_normal((1, DIM), dtype=np.float32))
    topics = unit(rng.standard_normal((max(num_rows // 200, 1), DIM), dtype=np.float32))
    vectors = np.empty((num_rows, DIM), np.float16)
    for rows in np.array_split(np.arange(num_base), math.ceil(num_base / 50_000)):
        noise = rng.standard_normal((len(rows), DIM), dtype=np.float32) / math.sqrt(DIM)
        topic = topics[rng.integers(len(topics), size=len(rows))]
        vectors[rows] = unit(0.6 * cone + 0.55 * topic + 0.6 * noise)
    # Many pictures have one copy, few have many.
    originals = (num_base * rng.random(num_copies) ** 3).astype(np.int64)
    cosine = rng.uniform(0.92, 1, num_copies).astype(np.float32)[:, None]
    start = vectors[originals].astype(np.float32)
    noise = rng.standard_normal((num_copies, DIM), dtype=np.float32)
    across = unit(noise - (noise * start).sum(1, keepdims=True) * start)
    vectors[num_base:] = unit(cosine * start + np.sqrt(1 - cosine**2) * across)
    copies = np.arange(num_base, num_rows)
    place = rng.permutation(num_rows)
    shuffled = np.empty_like(vectors)
    shuffled[place] = vectors
    found = cosines(shuffled, place[originals], place[copies])
    pairs = np.stack([place[originals], place[copies]], axis=1)[found >= THRESHOLD + 1e-4]
    return Planted(shuffled, rng.permutation(num_rows).astype(np.float64), pairs)


def unit(rows: np.ndarray) -> np.ndarray:
    """Make rows unit length."""
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def cosines(vectors: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Give the cosines of pairs of rows."""
    x, y = vectors[one].astype(np.float32), vectors[other].astype(np.float32)
    found: np.ndarray = (unit(x) * unit(y)).sum(axis=1)
    return found


def semdedup(data: Planted, num_cells: int) -> np.ndarray:
    """Apply SemDeDup's rule; give ``(N,)`` bool, True is kept."""
    rows = torch.from_numpy(data.vectors).bfloat16()
    generator = torch.Generator().manual_seed(0)
    centroids = rows[torch.randperm(len(rows), generator=generator)[:num_cells]]
    sample = torch.randperm(len(rows), generator=generator)[: 64 * num_cells]
    for _ in range(10):
        home = nearest(rows[sample], centroids)
        sums = torch.zeros(len(centroids), DIM).index_add_(0, home, rows[sample].float())
        sizes = home.bincount(minlength=len(centroids))
        sums[sizes == 0] = centroids[sizes == 0].float()
        centroids = torch.nn.functional.normalize(sums, dim=1).bfloat16()
    return goes_in_cells(data, nearest(rows, centroids).numpy())


def nearest(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Give the nearest centroid of each row."""
    return torch.cat([(part @ centroids.T).argmax(dim=1) for part in rows.split(4096)])


def goes_in_cells(data: Planted, home: np.ndarray) -> np.ndarray:
    """Remove a row if a preferred one in its cell is similar, whether it is kept or not."""
    kept = np.ones(len(home), bool)
    order = np.argsort(-data.rank)
    for cell in range(home.max() + 1):
        rows = order[home[order] == cell]
        part = torch.from_numpy(unit(data.vectors[rows].astype(np.float32)))
        similar = torch.tril(part @ part.T >= THRESHOLD, diagonal=-1)
        kept[rows] = ~similar.any(dim=1).numpy()
    return kept


def ours(data: Planted) -> np.ndarray:
    """Call the library; give ``(N,)`` bool, True is kept."""
    table = find_semantic_duplicates(
        data.vectors, data.rank, min_similarity=THRESHOLD, device="cpu"
    )
    kept = np.ones(len(data.vectors), bool)
    kept[table["removed"].to_numpy()] = False
    return kept


def greedy_leader(data: Planted) -> np.ndarray:
    """Compare every row with all kept ones; give ``(N,)`` bool, True is kept."""
    order = np.argsort(-data.rank)
    kept = np.zeros(len(order), bool)
    for block in np.array_split(order, math.ceil(len(order) / 1024)):
        is_free = ~is_like(data.vectors, block, np.flatnonzero(kept))
        part = torch.from_numpy(unit(data.vectors[block].astype(np.float32)))
        among = (part @ part.T >= THRESHOLD).numpy()
        for i in np.flatnonzero(is_free):
            is_free[i] = not (among[i, :i] & is_free[:i]).any()
        kept[block[is_free]] = True
    return kept


def is_like(vectors: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which of some rows are similar to any of others, itself aside."""
    found = np.zeros(len(some), bool)
    columns = np.array_split(others, max(1, len(others) // 16_384))
    for part in (part for part in columns if len(part)):
        right = torch.from_numpy(vectors[part]).bfloat16()
        for start in range(0, len(some), 2048):
            rows = some[start : start + 2048]
            near = torch.from_numpy(vectors[rows]).bfloat16() @ right.T
            i, j = (near >= THRESHOLD - 0.006).nonzero(as_tuple=True)
            one, other = rows[i.numpy()], part[j.numpy()]
            similar = (cosines(vectors, one, other) >= THRESHOLD) & (one != other)
            found[start + i.numpy()[similar]] = True
    return found


def measured(function: Callable[[], T]) -> tuple[T, float]:
    """Give what a call returns, and its CPU seconds."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def report(name: str, data: Planted, kept: np.ndarray, seconds: float) -> None:
    """Print what a program has found."""
    removed, stay = np.flatnonzero(~kept), np.flatnonzero(kept)
    rng = np.random.default_rng(0)
    probe = rng.choice(stay, min(len(stay), 5000), replace=False)
    missed = int(is_like(data.vectors, probe, stay).sum())
    removed = rng.choice(removed, min(len(removed), 20_000), replace=False)
    lone = len(removed) - int(is_like(data.vectors, removed, stay).sum())
    recall = 1 - (kept[data.pairs].all(axis=1)).mean()
    print(
        f"  {name:<24} {seconds:>8.1f} {len(stay):>9,} {lone:>6,} of {len(removed):<6,} "
        f"{missed:>4,} of {len(probe):,} {recall:>9.5f}"
    )


def peak_mb(function: Callable[[], T]) -> tuple[T, float]:
    """Give what a call returns, and how much memory it had at most beyond what was there.

    This is Linux's own count, which is set back first.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_mb("VmRSS")
    result = function()
    return result, memory_mb("VmHWM") - before


def memory_mb(name: str) -> float:
    """Read a line of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1024


def compare_programs(num_rows: int, seed: int) -> float:
    """Print a table for one size; give the CPU seconds of ours."""
    data = planted(num_rows, seed)
    print(f"\n{num_rows:,} x {DIM} float16, {len(data.pairs):,} planted pairs, seed {seed}")
    print(f"  {'':<24} {'CPU s':>8} {'kept':>9} {'lone':>16} {'missed':>13} {'recall':>9}")
    (kept, seconds), beyond = peak_mb(lambda: measured(lambda: ours(data)))
    report("ours", data, kept, seconds)
    cells = round(math.sqrt(num_rows / 2))
    theirs, their_seconds = measured(lambda: semdedup(data, cells))
    report("SemDeDup's rule", data, theirs, their_seconds)
    if num_rows <= BRUTE_FORCE_ROWS:
        right, brute_seconds = measured(lambda: greedy_leader(data))
        report("greedy leader", data, right, brute_seconds)
        print(
            f"  ours keeps {int(kept.sum()) - int(right.sum()):+,} rows of "
            f"{int(right.sum()):,} ({(kept.sum() / right.sum() - 1):+.5%}; bar 0.02%), "
            f"differs in {int((kept != right).sum()):,}, and takes "
            f"1/{brute_seconds / seconds:.1f} of its time"
        )
    print(f"  peak memory of ours is the vectors and {beyond:,.0f} MB")
    return seconds


def one_shard_more(num_rows: int, seed: int) -> None:
    """Print what adding a twentieth costs, and whether it is as starting over."""
    data = planted(num_rows, seed)
    parts = np.array_split(np.arange(num_rows), NUM_SHARDS)
    num_cells = round(math.sqrt(num_rows / 2))
    cells = CellSettings(num_cells, max(1, round(num_rows / 250_000)))
    sample = data.vectors[:: max(1, num_rows // (64 * num_cells))]
    centroids, fitting = measured(lambda: fit_centroids(sample, cells, 0.9, device="cpu"))
    rule = Rule(("score desc",), exact=False, min_similarity=THRESHOLD)

    def give(name: str, ordinal: int) -> ShardVectors:
        rows = parts[int(name)]
        return ShardVectors(ordinal, "encoder", data.vectors[rows], data.rank[rows])

    def read(shard: int, columns: Sequence[str]) -> pa.Table:
        return pa.table({"score": data.rank[parts[shard]]}).select(columns)

    with tempfile.TemporaryDirectory() as folder:
        settings = StateSettings("encoder")
        state = create_state(LocalStorage(folder), "state", settings, centroids)
        print(f"\n{num_rows:,} rows in {NUM_SHARDS} shards, a state with pairs from 0.9 on")
        print(f"  {'':<34} {'CPU s':>8}")
        print(f"  {'fit centroids':<34} {fitting:>8.2f}")
        for count in (NUM_SHARDS - 1, NUM_SHARDS):
            there = {f"{i:02d}": "1" for i in range(count)}

            def compare(shards: dict[str, str] = there) -> None:
                add_shards(state, shards, give, device="cpu")
                for bin_ in pending_bins(state):
                    compare_bin(state, bin_, device="cpu")

            _, comparing = measured(compare)
            compared = ComparedShards(state, current_ordinals(state, there.items()))
            removals, deciding = measured(
                lambda c=count, k=compared: find_duplicates(
                    c, read, rule, compared=k, device="cpu"
                )
            )
            what = f"the first {count}" if count < NUM_SHARDS else "one shard more"
            print(f"  {'compare ' + what:<34} {comparing:>8.2f}")
            print(f"  {'decide on ' + str(count):<34} {deciding:>8.2f}")
        _, probing = measured(
            lambda: estimate_missed(
                state,
                compared.ordinals,
                removals,
                min_similarity=THRESHOLD,
                device="cpu",
            )
        )
        print(f"  {'estimate the recall':<34} {probing:>8.2f}")
    kept = np.ones(num_rows, bool)
    starts = np.array([part[0] for part in parts])
    kept[starts[ordinals(removals.removed)] + rows_in_shard(removals.removed)] = False
    all_at_once = ours(data)
    print(
        f"  kept {int(kept.sum()):,}; in memory, all at once, {int(all_at_once.sum()):,}, "
        f"and {int((kept != all_at_once).sum()):,} rows are decided otherwise"
    )


def main() -> None:
    """Print a table for each size, how the time grows, and what one shard more costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows, half a minute")
    parser.add_argument("--rows", default="100000,200000", help="sizes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    text = "10000,20000" if arguments.quick else arguments.rows
    sizes = [int(size) for size in text.split(",")]
    ours(planted(2000, arguments.seed))  # what is loaded on first use
    seconds = [compare_programs(size, arguments.seed) for size in sizes]
    if len(sizes) > 1:
        exponent = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
        print(f"\nours grows as N^{exponent:.2f} from {sizes[0]:,} to {sizes[-1]:,}")
    one_shard_more(sizes[-1], arguments.seed)


if __name__ == "__main__":
    main()
