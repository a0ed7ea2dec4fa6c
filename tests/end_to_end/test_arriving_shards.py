"""Shards that come, go and change through Dagster, against every pair compared by NumPy."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.ingest.demo_pictures import open_photographs
from curation.recipe import load_recipe
from curation.testing.image_shards import make_shard
from jobs.curate import curate
from resources.progress import LineProgress
from tests.curation.dedup.brute_force import cosines, greedy_leader

SIMILAR = 0.93

RECIPE = f"""\
name: arriving
source: raw
output: curated
encoder: {{precision: fp32}}
duplicates: {{min_similarity: {SIMILAR}, prefer: [pixels desc, key asc]}}
filter: not is_duplicate
machine: {{device: cpu, workers: 1, image_loader: pillow}}
"""

Place = tuple[str, str]


def sliding_pictures(seed: int) -> list[bytes]:
    """Cut photographs at places that move on slowly: each is like the next few."""
    rng = np.random.default_rng(seed)
    pictures = []
    for name in ("chelsea", "coffee", "rocket"):
        image = open_photographs()[name]
        for left in range(0, 96, 8):
            size = int(rng.integers(120, 200))
            part = image.crop((left, 20, left + 180, 200)).resize((size, size))
            out = io.BytesIO()
            part.save(out, "JPEG", quality=int(rng.integers(40, 95)))
            pictures.append(out.getvalue())
    return [pictures[i] for i in rng.permutation(len(pictures))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("home", "raw"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def upload(folder: Path, shard: str, pictures: list[bytes]) -> None:
    named = {f"{shard}{number:04d}": data for number, data in enumerate(pictures)}
    (folder / "raw" / f"{shard}.tar").write_bytes(make_shard(named))


def kept_and_removed(folder: Path) -> tuple[set[Place], dict[Place, Place]]:
    """Bring everything up to date; tell which samples stay, and for which the others go."""
    recipe = load_recipe(folder / "recipe.yaml")
    result = curate(recipe, LineProgress(print), until="duplicates")
    assert not result.failed
    removed = {}
    for shard in shards_of(folder):
        table = pq.read_table(folder / f"curated/duplicates/arriving/{shard}.parquet")
        for row in table.to_pylist():
            survivor = row["survivor_shard"], row["survivor_key"]
            removed[shard, row["key"]] = survivor
    return set(vectors_of(folder)) - removed.keys(), removed


def shards_of(folder: Path) -> list[str]:
    return sorted(tar.stem for tar in (folder / "raw").glob("*.tar"))


def vectors_of(folder: Path) -> dict[Place, tuple[np.ndarray, int]]:
    """Read each sample's vector and pixels."""
    found = {}
    for shard in shards_of(folder):
        (file,) = folder.glob(f"curated/embeddings/*/{shard}.parquet")
        for row in pq.read_table(file).to_pylist():
            vector = np.frombuffer(row["image_embedding"], np.float16)
            found[shard, row["key"]] = vector, row["width"] * row["height"]
    return found


def by_brute_force(samples: Mapping[Place, tuple[np.ndarray, int]]) -> set[Place]:
    """Give what a greedy leader keeps: most pixels first, then the smallest key."""
    places = list(samples)
    similar = cosines(np.stack([vector for vector, _ in samples.values()])) >= SIMILAR
    order = sorted(range(len(places)), key=lambda i: (-samples[places[i]][1], places[i][1]))
    kept = greedy_leader(similar, np.array(order))
    return {place for place, is_kept in zip(places, kept, strict=True) if is_kept}


def check(folder: Path) -> int:
    """Curate, and compare with brute force on what is there; give how many go."""
    kept, removed = kept_and_removed(folder)
    samples = vectors_of(folder)
    assert kept == by_brute_force(samples)
    for sample, survivor in removed.items():
        assert survivor in kept
        pair = np.stack([samples[sample][0], samples[survivor][0]])
        assert cosines(pair)[0, 1] >= np.float32(SIMILAR)
    return len(removed)


def test_after_every_batch_the_kept_set_is_that_of_brute_force_on_all(folder: Path) -> None:
    pictures = sliding_pictures(0)
    counts = []
    for shard, part in zip("bac", np.split(np.arange(36), 3), strict=True):  # not by name
        upload(folder, shard, [pictures[i] for i in part])
        counts.append(check(folder))
    assert 0 < counts[0] < counts[1] < counts[2] < 30

    # What is left is decided on as if the shard had never been, and then as if another
    # one had been there from the start.
    (folder / "raw" / "b.tar").unlink()
    assert check(folder) < counts[2]
    upload(folder, "a", sliding_pictures(1)[:12])
    check(folder)
