"""How fast are batches for a prior, beside embedding-reader and DALLE2-pytorch's loader?

Shows, for batches of 256 and of 2 (the README's): image and text embeddings, then image
embeddings with captions tokenized by workers. The floor is NumPy alone: the mapped file,
sliced and converted to float32.

    python benchmarks/prior_loader.py [--rows 200000] [--quick] [--peer-python PYTHON]

The peer's Python is one where ``pip install dalle2-pytorch "setuptools<81"`` was done;
without it only the floor is shown. Bars: with embeddings at least as fast as
EmbeddingReader, which reads half as many, at batch 256, and 5 times at batch 2.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from paired import Measured, Peer, measure, print_rates, print_ratio, take_turns

from curation.training import get_reader, make_splits

DIM = 512
PARTS = 4
ROUNDS = 5
WORDS = ("photo", "drawing", "small", "red", "dog", "house", "old", "street", "of", "a")


def make_parts(folder: Path, rows: int) -> None:
    """Write what clip-retrieval would: float16 vectors and captions, in parts."""
    rng = np.random.default_rng(0)
    for kind in ("img_emb", "text_emb", "metadata"):
        (folder / kind).mkdir()
    for part in range(PARTS):
        size = rows // PARTS
        for kind in ("img_emb", "text_emb"):
            vectors = rng.standard_normal((size, DIM), np.float32).astype(np.float16)
            np.save(folder / kind / f"{kind}_{part}.npy", vectors)
        captions = [" ".join(words) for words in rng.choice(WORDS, (size, 12))]
        table = pa.table({"image_path": [str(i) for i in range(size)], "caption": captions})
        pq.write_table(table, folder / "metadata" / f"metadata_{part}.parquet")


def ours(folder: Path, batch_size: int, count: int, text_conditioned: bool) -> int:
    """Read the train split."""
    reader = get_reader(
        text_conditioned, f"{folder}/img_emb", f"{folder}/metadata", f"{folder}/text_emb"
    )
    readers = reader if isinstance(reader, tuple) else (reader,)
    loader, _, _ = make_splits(text_conditioned, batch_size, count, 0.98, 0.01, *readers)
    return sum(len(images) for images, _ in loader)


def floor(folder: Path, batch_size: int, count: int) -> int:
    """Slice and convert as many rows of images and texts with NumPy."""
    rows = 0
    for part in range(PARTS):
        files = [folder / kind / f"{kind}_{part}.npy" for kind in ("img_emb", "text_emb")]
        images, texts = [np.load(file, mmap_mode="r") for file in files]
        for start in range(0, min(len(images), count - rows), batch_size):
            batch = images[start : start + batch_size].astype(np.float32)
            texts[start : start + batch_size].astype(np.float32)
            rows += len(batch)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, 2 rounds")
    parser.add_argument("--peer-python", help="a Python with dalle2-pytorch")
    arguments = parser.parse_args()
    rows, rounds = (20_000, 2) if arguments.quick else (arguments.rows, ROUNDS)
    peer = Peer(arguments.peer_python) if arguments.peer_python else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_parts(folder, rows)
        for batch_size, count in ((256, rows), (2, rows // 10)):
            show_embeddings(folder, batch_size, count, rounds, peer)
            show_captions(folder, batch_size, count // 5, rounds, peer)
    if peer:
        peer.close()


def show_embeddings(
    folder: Path, batch_size: int, count: int, rounds: int, peer: Peer | None
) -> None:
    """Compare loops over image and text embeddings."""
    settings = {"folder": str(folder), "batch_size": batch_size, "count": count}
    loops: dict[str, Callable[[], Measured]] = {
        "ours": lambda: measure(partial(ours, folder, batch_size, count, False)),
        "NumPy alone": lambda: measure(partial(floor, folder, batch_size, count)),
    }
    if peer:
        loops["EmbeddingReader (images only)"] = lambda: peer.measure(
            "embedding_reader", **settings
        )
        loops["DALLE2-pytorch"] = lambda: peer.measure("prior_embeddings", **settings)
    found = take_turns(loops, rounds)
    print_rates(f"image and text embeddings, batches of {batch_size}", found)
    print_ratio(found, "ours", "NumPy alone")
    if peer:
        bar = 1 if batch_size > 2 else 5
        print_ratio(found, "ours", "EmbeddingReader (images only)", bar)
        print_ratio(found, "ours", "DALLE2-pytorch")


def show_captions(
    folder: Path, batch_size: int, count: int, rounds: int, peer: Peer | None
) -> None:
    """Compare loops over image embeddings and tokenized captions."""
    settings = {"folder": str(folder), "batch_size": batch_size, "count": count}
    loops: dict[str, Callable[[], Measured]] = {
        "ours": lambda: measure(partial(ours, folder, batch_size, count, True))
    }
    if peer:
        loops["DALLE2-pytorch"] = lambda: peer.measure("prior_captions", **settings)
    found = take_turns(loops, rounds)
    print_rates(f"image embeddings and captions, batches of {batch_size}", found)
    if peer:
        print_ratio(found, "ours", "DALLE2-pytorch")


if __name__ == "__main__":
    main()
