"""What does Dagster cost per shard, beside the work itself?

Tiny shards, of one image each, are curated from nothing by `curate run`'s own function,
with everything recorded: data versions, metadata, asset checks, contact sheets. Every step
records how long its own functions took for each shard; the overhead is all the rest, per
shard over all its assets, also what a run costs whatever its size: loading the model, say.

From runs of two sizes follow the cost of a run and that of a shard, and from them how many
shards of 10,000 images a run must have for the overhead to stay below 5%. A run that
Dagster's daemon starts is a process of its own, whose start is measured too. A shard has
two runs: images first, then, when all were compared, the decision.

    python benchmarks/overhead.py            # 1,000 shards
    python benchmarks/overhead.py --quick    # 100 shards
    python benchmarks/overhead.py --cpu      # on a machine that does other work too

``--cpu`` counts the process's CPU seconds in place of the clock's: other work changes them
little, and waiting for the disk is not in them.

Bar: less than 0.15 s per shard over all assets.
"""

import argparse
import io
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
from PIL import Image

SHARDS_PER_RUN = (10, 50)
RATES = (500, 3_000, 10_000)  # images a second
IMAGES_PER_SHARD = 10_000
MOST_OVERHEAD = 0.05
BAR_SECONDS = 0.15
NUM_WARM = 20  # shards that are curated before any are timed
ROOT = Path(__file__).parents[1]

RECIPE = """\
name: overhead
source: {source}
output: curated-{name}
filter: min(width, height) >= 1 and not is_duplicate
machine: {{device: cpu, workers: 1, shards_per_run: {per_run}, batch_size: 1}}
"""


def write_shards(folder: Path, count: int) -> None:
    """Write tars of one image each, all different."""
    folder.mkdir(parents=True)
    for number in range(count):
        picture = Image.new("RGB", (32, 32), (number % 256, number // 256, 7))
        data = io.BytesIO()
        picture.save(data, "JPEG")
        with tarfile.open(folder / f"{number:05}.tar", "w") as tar:
            info = tarfile.TarInfo(f"{number:05}0000.jpg")
            info.size = data.tell()
            tar.addfile(info, io.BytesIO(data.getvalue()))


def curate_all(
    folder: Path, source: str, per_run: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Curate; give the seconds in all, and those that the steps' own work took."""
    from curation.recipe import load_recipe
    from jobs.curate import curate
    from resources.progress import LineProgress

    name = f"{source}-{per_run}"
    home = folder / f"home-{name}"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(RECIPE.format(source=source, per_run=per_run, name=name))
    start = clock()
    result = curate(load_recipe(recipe_file), LineProgress(lambda _: None))
    seconds = clock() - start
    assert not result.failed
    return seconds, _own_seconds(home)


def _own_seconds(home: Path) -> float:
    """Sum up what the steps say that their functions took."""
    instance = dg.DagsterInstance.from_config(str(home))
    total = 0.0
    for asset in ("shard_index", "embeddings", "scores", "selection", "filtered_shard"):
        found = instance.fetch_materializations(dg.AssetKey(asset), limit=10_000)
        for record in found.records:
            event = record.asset_materialization
            seconds = event.metadata.get("seconds") if event else None
            total += float(seconds.value) if seconds else 0.0  # type: ignore[arg-type]
    instance.dispose()
    return total


def count_cpu_seconds() -> None:
    """Make the steps tell CPU seconds of this process, where they tell the clock's."""
    from curation.embedding_workers import base
    from curation_assets import shard_asset

    vars(base)["perf_counter"] = time.process_time
    vars(shard_asset)["time"] = SimpleNamespace(perf_counter=time.process_time)


def process_seconds(*, cpu: bool) -> float:
    """Measure what a run's process needs before it can embed."""
    needed = "import jobs.definitions, torch, timm, nvidia.dali"
    command = [sys.executable, "-W", "ignore", "-c", needed]
    taken = []
    for _ in range(3):
        start, before = time.perf_counter(), os.times()
        subprocess.run(command, cwd=ROOT, check=True)
        wall, after = time.perf_counter() - start, os.times()
        spent = sum(after[2:4]) - sum(before[2:4])  # of children
        taken.append(spent if cpu else wall)
    return statistics.median(taken)


def shards_needed(rate: float, run_seconds: float, shard_seconds: float) -> str:
    """Say how many shards a run must have for the overhead to be small enough."""
    allowed = MOST_OVERHEAD * IMAGES_PER_SHARD / rate
    if shard_seconds >= allowed:
        return "none"
    return f"{max(1, math.ceil(run_seconds / (allowed - shard_seconds))):,}"


def print_table(small: float, large: float, start: float) -> None:
    """Print what follows from the overhead per shard at two sizes of runs.

    Args:
        small: Seconds per shard in small runs.
        large: In large ones.
        start: What it takes to start a process.
    """
    few, many = SHARDS_PER_RUN
    run_seconds = max(small - large, 0) / (1 / few - 1 / many)
    shard_seconds = large - run_seconds / many
    print(
        f"a run costs {run_seconds:.2f} s, a shard {shard_seconds:.3f} s, the start of a "
        f"process {start:.1f} s"
    )
    print(f"shards of {IMAGES_PER_SHARD:,} images per run, overhead below 5% from:")
    print(f"{'':26}" + "".join(f"{rate:>12,}/s" for rate in RATES))
    for name, seconds in (
        ("curate run", run_seconds),
        ("runs of Dagster's daemon", run_seconds + 2 * start),
    ):
        needed = [shards_needed(rate, seconds, shard_seconds) for rate in RATES]
        print(f"{name:26}" + "".join(f"{count:>14}" for count in needed))


def main() -> None:
    """Print overhead per shard, and how large runs must be to keep it below 5%."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    count = 100 if options.quick else options.shards
    clock = time.process_time if options.cpu else time.perf_counter
    if options.cpu:
        count_cpu_seconds()
    unit = "CPU s" if options.cpu else "s"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_shards(folder / "raw", count)
        write_shards(folder / "warm", NUM_WARM)
        curate_all(folder, "warm", NUM_WARM, clock)  # packages are imported
        overheads = []
        for per_run in SHARDS_PER_RUN:
            seconds, own = curate_all(folder, "raw", per_run, clock)
            overhead = (seconds - own) / count
            overheads.append(overhead)
            print(
                f"{count} shards, {per_run} per run: {seconds:.1f} {unit}, the steps' own "
                f"work {own:.1f}; overhead {overhead:.3f} {unit} per shard "
                f"(bar: {BAR_SECONDS} s)"
            )
        print_table(*overheads, process_seconds(cpu=options.cpu))


if __name__ == "__main__":
    main()
