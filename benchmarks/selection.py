"""Show what another threshold costs: re-selecting a million scored samples.

Tables of facts, scores and duplicates of 100 shards are written once, as the pipeline
writes them. Then a recipe's filter is applied to all of them, shard after shard, reading
and writing files included: a plain threshold, and a top fraction of the whole set, whose
cut is found first in a pass of its own. The floor is Polars alone answering how many
samples the plain filter keeps, from the same files in one lazy query, with no reasons and
nothing written. All run in turn; medians are printed.

    python benchmarks/selection.py [--quick]

Bar: 10 seconds for 1,000,000 rows on 2 cores, without importing torch.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curation.filters import Filter, make_filter
from curation.selection import (
    find_cuts,
    judged_samples,
    needed_facts,
    needed_scores,
    select_samples,
)
from curation.storage import LocalStorage
from curation.tables import (
    DUPLICATES,
    EMBEDDINGS,
    SCORES,
    SELECTION,
    TableKind,
    read_table,
    write_table,
)

SHARDS = 100
BAR_SECONDS = 10
WORDS = [f"word{n}" for n in range(15)]
BASIC = "min(width, height) >= 200 and aspect_ratio <= 3 and not is_duplicate"
PLAIN = f"{BASIC} and caption_words > 2 and aesthetic >= 5 and nsfw < 0.5"
TOP = f"{BASIC} and caption_words > 2 and top_fraction(aesthetic, 0.3)"


def make_tables(storage: LocalStorage, num_rows: int) -> None:
    """Write the tables of all shards, without vectors, which a selection never reads."""
    rng = np.random.default_rng(0)
    count = num_rows // SHARDS
    for shard in range(SHARDS):
        keys = [f"{shard:04}{n:05}" for n in range(count)]
        removed = np.flatnonzero(rng.random(count) < 0.2)
        write(
            storage,
            f"facts/{shard:04}.parquet",
            EMBEDDINGS,
            key=keys,
            width=rng.integers(100, 2000, count),
            height=rng.integers(100, 2000, count),
            caption=[" ".join(WORDS[:n]) for n in rng.integers(1, len(WORDS), count)],
        )
        write(
            storage,
            f"scores/{shard:04}.parquet",
            SCORES,
            key=keys,
            aesthetic=rng.normal(5, 1, count).astype(np.float32),
            nsfw=(rng.random(count) ** 4).astype(np.float32),
        )
        write(
            storage,
            f"duplicates/{shard:04}.parquet",
            DUPLICATES,
            key=[keys[n] for n in removed],
            survivor_shard=["0000"] * len(removed),
            survivor_key=["000000000"] * len(removed),
            kind=["semantic"] * len(removed),
            similarity=[0.97] * len(removed),
        )


def write(storage: LocalStorage, path: str, table: TableKind, /, **columns: Any) -> None:
    """Write a table with some columns; others that its kind has are null."""
    count = len(columns["key"])
    fixed = {
        field.name: pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in table.columns
    }
    write_table(storage, path, table, pa.table(columns | fixed), fingerprint="made up")


def shard_tables(storage: LocalStorage, filter_: Filter) -> Iterator[tuple]:
    """Read what a selection of each shard needs."""
    for shard in range(SHARDS):
        path = f"{shard:04}.parquet"
        yield (
            read_table(storage, f"facts/{path}", EMBEDDINGS, needed_facts(filter_)),
            read_table(storage, f"scores/{path}", SCORES, needed_scores(filter_)),
            read_table(storage, f"duplicates/{path}", DUPLICATES),
        )


def select(storage: LocalStorage, expression: str) -> int:
    """Select all shards, and write what came of it; give the number of kept samples."""
    filter_ = make_filter(expression)
    if filter_.cuts:
        frames = (judged_samples(*t, filter_) for t in shard_tables(storage, filter_))
        filter_ = filter_.bind(find_cuts(filter_, frames))
    kept = 0
    for shard, tables in enumerate(shard_tables(storage, filter_)):
        table = select_samples(*tables, filter_)
        path = f"selection/{shard:04}.parquet"
        write_table(storage, path, SELECTION, table, fingerprint="x")
        kept += pl.Series(table["kept"]).sum()
    return kept


def polars_alone(folder: Path) -> int:
    """Count what the plain filter keeps, in one lazy query."""
    facts, scores, duplicates = (
        pl.scan_parquet(folder / name / "*.parquet")
        for name in ("facts", "scores", "duplicates")
    )
    width, height = pl.col("width"), pl.col("height")
    longer, shorter = pl.max_horizontal(width, height), pl.min_horizontal(width, height)
    kept = (
        facts.join(scores, on="key")
        .join(duplicates, on="key", how="anti")
        .filter(
            shorter >= 200,
            longer / shorter <= 3,
            pl.col("caption").str.count_matches(r"\S+") > 2,
            pl.col("aesthetic") >= 5,
            pl.col("nsfw") < 0.5,
        )
    )
    count: int = kept.select(pl.len()).collect().item()
    return count


def main() -> None:
    """Print the seconds of each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100,000 rows, not 1,000,000")
    num_rows, rounds = (100_000, 3) if parser.parse_args().quick else (1_000_000, 3)
    with tempfile.TemporaryDirectory() as name:
        storage = LocalStorage(Path(name))
        make_tables(storage, num_rows)
        ways: dict[str, Callable[[], int]] = {
            "a plain threshold": lambda: select(storage, PLAIN),
            "a top fraction": lambda: select(storage, TOP),
            "Polars alone": lambda: polars_alone(Path(name)),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        kept = {}
        for _ in range(rounds):
            for way, run in ways.items():
                start = time.perf_counter()
                kept[way] = run()
                seconds[way].append(time.perf_counter() - start)
    print(f"{num_rows:,} rows in {SHARDS} shards")
    for way, found in seconds.items():
        print(f"{way:18} {statistics.median(found):6.2f} s   keeps {kept[way]:,}")
    print(
        f"bar                {BAR_SECONDS:6.2f} s   torch loaded: {'torch' in sys.modules}"
    )


if __name__ == "__main__":
    main()
