"""What does Dagster cost per shard, beside the work itself?

Tiny shards, of one image each, are curated from nothing by `curate run`'s own function,
with everything recorded: data versions, metadata, asset checks, contact sheets. Every step
records how long its own functions took for each shard; the overhead is all the rest, per
shard over all its assets. The first row's run also loads packages and the model.

From it follows how many images a shard must have for the overhead to stay below 5%.

    python benchmarks/overhead.py            # 1,000 shards
    python benchmarks/overhead.py --quick    # 100 shards

Bar: less than 0.15 s per shard over all assets.
"""

import argparse
import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

import dagster as dg
from PIL import Image

SHARDS_PER_RUN = (10, 50)
RATES = (500, 3_000, 10_000)  # images a second
BAR_SECONDS = 0.15

RECIPE = """\
name: overhead
source: raw
output: curated{name}
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


def curate_all(folder: Path, per_run: int, name: str = "") -> tuple[float, float]:
    """Curate; give wall seconds in all, and those that the steps' own work took."""
    from curation.recipe import load_recipe
    from jobs.curate import curate
    from resources.progress import LineProgress

    home = folder / f"home{name or per_run}"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(Path(__file__).parents[1] / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(RECIPE.format(per_run=per_run, name=name or per_run))
    start = time.perf_counter()
    result = curate(load_recipe(recipe_file), LineProgress(lambda _: None))
    wall = time.perf_counter() - start
    assert not result.failed
    return wall, _own_seconds(home)


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


def main() -> None:
    """Print overhead per shard, and what size of shards keeps it below 5%."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count = 100 if options.quick else options.shards
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_shards(folder / "raw", count)
        curate_all(folder, count, "warm")  # the model is loaded, packages are imported
        for per_run in SHARDS_PER_RUN:
            wall, own = curate_all(folder, per_run)
            overhead = (wall - own) / count
            print(
                f"{count} shards, {per_run} per run: {wall:.1f} s, of which the steps' own "
                f"work took {own:.1f}; overhead {overhead:.3f} s per shard "
                f"(bar: {BAR_SECONDS})"
            )
            sizes = "; ".join(f"{overhead / 0.05 * r:,.0f} at {r:,}/s" for r in RATES)
            print(f"  below 5% from so many images per shard on: {sizes}")


if __name__ == "__main__":
    main()
