"""Show what scoring costs: both LAION heads for ViT-L/14 against their matrix products.

The heads are ``aesthetic`` and ``nsfw``, scored by ``score_all`` from float16 rows of 768
numbers; the floor is the same layers' matrix products alone, from rows that are float32
already, in the same blocks and by the same torch. Both run in turn in one process; the
medians over rounds are printed, and the median of the ratios.

Weights are random, of the published shapes, with the published vocabularies: what a
product costs does not depend on what it multiplies.

    python benchmarks/score.py [--quick]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from curation.classifiers import AestheticClassifier, NsfwClassifier
from curation.classifiers.aesthetic import head_shapes as aesthetic_shapes
from curation.classifiers.base import BLOCK_ROWS, score_all
from curation.classifiers.nsfw import LOOKED_UP, head_shapes

DIM = 768
MODEL = "vit_l_14"
TARGET_ROWS_PER_SECOND = 200_000
TARGET_SHARE = 0.6


def make_heads(folder: Path, rng: np.random.Generator) -> list:
    """Write random heads of the published shapes, and make their classifiers."""
    for name, shapes in (("aesthetic", aesthetic_shapes()), ("nsfw", head_shapes(MODEL))):
        head = {
            key: rng.normal(0, 0.05, shape).astype(np.float32)
            for key, shape in shapes.items()
        }
        if name == "nsfw":
            head["norm.variance"] = np.full(DIM, 1 / DIM, np.float32)
            head["norm.variance"][list(LOOKED_UP[MODEL])] = 1e5
        save_file(head, folder / f"{name}.safetensors")
    return [
        AestheticClassifier(weights=str(folder / "aesthetic.safetensors")),
        NsfwClassifier(weights=str(folder / "nsfw.safetensors")),
    ]


def products_alone(rows: torch.Tensor, matrices: list[torch.Tensor]) -> None:
    """Multiply blocks of float32 rows by the heads' matrices, and do nothing else."""
    with torch.inference_mode():
        for block in torch.split(rows, BLOCK_ROWS):
            _ = block @ matrices[0]
            for matrix in matrices[1:]:
                block = block @ matrix


def seconds(action: Callable[[], object]) -> float:
    """Measure one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Print rows per second, and the share of the products' speed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows, not 200,000")
    num_rows, num_rounds = (20_000, 5) if parser.parse_args().quick else (200_000, 7)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((num_rows, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    half = rows.astype(np.float16)
    widths = (1, 64, 512, 256, 1)
    shapes = [(DIM, 1), *zip((DIM, *widths[1:]), widths[1:], strict=False)]
    matrices = [torch.from_numpy(rng.normal(size=s).astype(np.float32)) for s in shapes]
    ours, floor = [], []
    with tempfile.TemporaryDirectory() as name:
        heads = make_heads(Path(name), rng)
        score_all(heads, half[:BLOCK_ROWS])
        for _ in range(num_rounds):
            ours.append(seconds(lambda: score_all(heads, half)))
            floor.append(seconds(lambda: products_alone(torch.from_numpy(rows), matrices)))
    shares = [f / o for f, o in zip(floor, ours, strict=True)]
    speed = num_rows / statistics.median(ours)
    print(f"{num_rows:,} float16 rows of {DIM}, {torch.get_num_threads()} threads")
    print(f"products alone   {num_rows / statistics.median(floor):>12,.0f} rows/s")
    print(f"both heads       {speed:>12,.0f} rows/s  (target {TARGET_ROWS_PER_SECOND:,})")
    share = statistics.median(shares)
    print(f"share of products {share:>11.2f}x        (target {TARGET_SHARE}x)")


if __name__ == "__main__":
    main()
