"""Show what it costs to write and read vectors in each of Parquet's column types.

``curation/tables.py`` keeps a vector as ``fixed_size_binary`` of float16. Here the same
vectors are written and read as that and as the list types that other tools use, in turn
and in one process, and the median of the ratios is printed: above 1, ours is faster.
Files are local and in the page cache, times are CPU seconds of one thread, and every way
ends with a NumPy matrix.

    python benchmarks/tables.py [--quick]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.storage import LocalStorage
from curation.tables import (
    EMBEDDING,
    FILTERED,
    embedding_column,
    embedding_matrix,
    read_table,
    write_table,
)

DIM = 512
OURS = "fixed_size_binary, by write_table and read_table"


@dataclass(frozen=True)
class Way:
    """One way to write vectors to Parquet, and to read them back."""

    name: str
    file: Path
    write: Callable[[np.ndarray], None]
    read: Callable[[], np.ndarray]


def as_list(folder: Path, kind: pa.DataType, fixed: bool, **options: object) -> Way:
    """Write vectors as lists of numbers."""
    listed = f"{'fixed_size_list' if fixed else 'list'}<{kind}>"
    name = f"{listed}, {in_words(options)}"
    file = folder / f"{name}.parquet"
    dtype = kind.to_pandas_dtype()

    def write(vectors: np.ndarray) -> None:
        values = pa.array(vectors.astype(dtype, copy=False).ravel())
        if fixed:
            column = pa.FixedSizeListArray.from_arrays(values, DIM)
        else:
            starts = np.arange(0, len(values) + 1, DIM, dtype=np.int32)
            column = pa.ListArray.from_arrays(pa.array(starts), values)
        pq.write_table(pa.table({"e": column}), file, **options)

    def read() -> np.ndarray:
        column = pq.read_table(file, use_threads=False)["e"].combine_chunks()
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)

    return Way(name, file, write, read)


def in_words(options: dict[str, object]) -> str:
    """Name options of Parquet's writer."""
    if not options:
        return "pyarrow's defaults"
    split = " + byte_stream_split" if options.get("use_byte_stream_split") else ""
    return f"{options['compression']}{split}".replace("NONE", "plain")


def as_ours(folder: Path) -> Way:
    """Write vectors as this package does, through its own functions."""
    storage = LocalStorage(folder)

    def write(vectors: np.ndarray) -> None:
        keys = pa.array(np.zeros(len(vectors)).astype(str))
        column = embedding_column(vectors, np.ones(len(vectors), bool))
        table = pa.table({"key": keys, EMBEDDING: column})
        write_table(storage, "ours.parquet", FILTERED, table, fingerprint="f")

    def read() -> np.ndarray:
        table = read_table(storage, "ours.parquet", FILTERED, [EMBEDDING])
        return embedding_matrix(table[EMBEDDING])[0]

    return Way(OURS, folder / "ours.parquet", write, read)


def cpu_seconds(action: Callable[..., object], *arguments: object) -> float:
    """Measure one call."""
    start = time.process_time()
    action(*arguments)
    return time.process_time() - start


def times_faster(seconds: dict[str, list[float]], name: str) -> float:
    """Give how many times ours is faster: the median over rounds."""
    pairs = zip(seconds[name], seconds[OURS], strict=True)
    return statistics.median(theirs / our for theirs, our in pairs)


def main() -> None:
    """Print one line per way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 vectors, not 100,000")
    num_rows, num_rounds = (10_000, 3) if parser.parse_args().quick else (100_000, 5)
    pa.set_cpu_count(1)
    vectors = np.random.default_rng(0).standard_normal((num_rows, DIM), dtype=np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    plain = {"compression": "NONE", "use_dictionary": False}
    split = {"compression": "ZSTD", "use_dictionary": False, "use_byte_stream_split": True}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = [
            as_ours(folder),
            as_list(folder, pa.float16(), True, **plain),
            as_list(folder, pa.float16(), False, **plain),
            as_list(folder, pa.float32(), True, **plain),
            as_list(folder, pa.float16(), True, **split),
            as_list(folder, pa.float16(), True),
        ]
        for way in ways:
            way.write(vectors)
            np.testing.assert_array_equal(way.read(), vectors)
        sizes = {way.name: way.file.stat().st_size for way in ways}
        writes: dict[str, list[float]] = {way.name: [] for way in ways}
        reads: dict[str, list[float]] = {way.name: [] for way in ways}
        for _ in range(num_rounds):
            for way in ways:
                writes[way.name].append(cpu_seconds(way.write, vectors))
                reads[way.name].append(cpu_seconds(way.read))
    print(f"{num_rows:,} vectors of {DIM} float16, {vectors.nbytes / 1e6:.0f} MB, 1 thread")
    print(f"{'':52}{'MB':>5}{'write s':>9}{'ours is':>9}{'read s':>9}{'ours is':>9}")
    for way in ways:
        print(
            f"{way.name:52}{sizes[way.name] / 1e6:5.0f}"
            f"{statistics.median(writes[way.name]):9.3f}"
            f"{times_faster(writes, way.name):8.1f}x"
            f"{statistics.median(reads[way.name]):9.3f}"
            f"{times_faster(reads, way.name):8.1f}x"
        )


if __name__ == "__main__":
    main()
