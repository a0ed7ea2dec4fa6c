"""Small filtered shards, made as the pipeline makes them, to be released."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from curation.dali_index import format_index
from curation.index import build_index
from curation.recipe import Recipe
from curation.release.manifest import Manifest
from curation.release.publish import ReleaseOptions, publish_release
from curation.reshard import describe_kept, reshard
from curation.storage import Storage
from curation.tables import EMBEDDING, FILTERED, embedding_column, write_table
from curation.tar import read_members
from curation.testing.image_shards import make_tar

Sample = Mapping[str, bytes]
"""Extension to bytes."""
FOLDER = "filtered/small"
ENCODER = {"model": "tiny", "dim": 4}


def picture(key: str, note: str = "") -> Sample:
    """Make a sample that no other key has."""
    return {
        "jpg": f"image of {key}{note}".encode() * 40,
        "txt": f"caption of {key}".encode(),
        "json": json.dumps({"url": f"https://example.org/{key}", "width": 3}).encode(),
    }


def pictures(*keys: str) -> dict[str, Sample]:
    """Make a sample of each key."""
    return {key: picture(key) for key in keys}


def numbered(count: int, start: int = 0) -> dict[str, Sample]:
    """Make samples with keys such as ``000000031``."""
    return pictures(*(f"{number:09d}" for number in range(start, start + count)))


def tar_of(samples: Mapping[str, Sample]) -> bytes:
    """Write samples to a tar with ``tarfile``."""
    return make_tar(
        (f"{key}.{extension}", data)
        for key, sample in samples.items()
        for extension, data in sample.items()
    )


def write_filtered(
    output: Storage,
    shard: str,
    samples: Mapping[str, Sample],
    *,
    kept: Callable[[str], bool] = lambda key: True,
    rows: str = "rows",
    vectors: bool = True,
    folder: str = FOLDER,
    filter: str | None = None,
) -> None:
    """Write the raw tar of some samples, and its filtered shard."""
    raw = f"raw/{shard}.tar"
    output.write(raw, tar_of(samples))
    index = build_index(read_members(output, raw))
    mask = np.array([kept(key) for key in index.keys], bool)
    filtered = reshard(output, index, mask, output, f"{folder}/{shard}.tar")
    output.write(f"{folder}/{shard}.idx", format_index(filtered))
    facts = _facts(index.keys, samples, vectors=vectors)
    write_table(
        output,
        f"{folder}/{shard}.parquet",
        FILTERED,
        describe_kept(index, mask, [facts], shard=shard),
        fingerprint=f"{shard} {mask.tolist()} {rows}",
        rows=f"{shard} {rows}",
        source=f"version of {shard}",
        encoder=ENCODER,
        **({"filter": filter} if filter else {}),
    )


def release(
    output: Storage,
    recipe: Recipe,
    *shards: str,
    name: str | None = None,
    anew: bool = False,
) -> Manifest | None:
    """Make the next release of some filtered shards."""
    options = ReleaseOptions(name=name, anew=anew, threads=1)
    return publish_release(output, recipe, FOLDER, shards, options)


def released(
    output: Storage, recipe: Recipe, *shards: str, name: str | None = None
) -> Manifest:
    """Make the next release, where there is something new."""
    made = release(output, recipe, *shards, name=name)
    assert made is not None
    return made


def small_recipe(**release_settings: object) -> Recipe:
    """Give a recipe that packs four samples in a tar."""
    settings = {"samples_per_shard": 4, **release_settings}
    return Recipe(name="small", source="raw", output="out", release=settings)


def samples_of(output: Storage, manifest: Manifest) -> dict[str, dict[str, bytes]]:
    """Read all samples of a release by ``tarfile``: key to extension to bytes."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in manifest.shards:
        for name, data in members(output, f"{manifest.folder}/{shard.files[0].path}"):
            key, _, extension = name.partition(".")
            assert extension not in found.setdefault(key, {})
            found[key][extension] = data
    return found


def members(output: Storage, path: str) -> list[tuple[str, bytes]]:
    """Read a tar by ``tarfile``."""
    with tarfile.open(fileobj=io.BytesIO(output.read(path))) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]


def _image(sample: Sample) -> str | None:
    images = ("jpg", "png", "webp", "JPG")
    return next((name for name in images if name in sample), None)


def _facts(keys: list[str], samples: Mapping[str, Sample], *, vectors: bool) -> pa.Table:
    images = [samples[key].get(_image(samples[key]) or "", b"") for key in keys]
    generator = np.random.default_rng(len(keys))
    columns = {
        "key": pa.array(keys, pa.string()),
        "image_bytes": pa.array(map(len, images), pa.int64()),
        "image_extension": pa.array([_image(samples[key]) for key in keys], pa.string()),
        "sha256": [hashlib.sha256(image).hexdigest() for image in images],
        "format": pa.array(["jpeg"] * len(keys), pa.string()),
        "width": pa.array([64] * len(keys), pa.int32()),
        "height": pa.array([48] * len(keys), pa.int32()),
        "caption": [samples[key].get("txt", b"").decode() for key in keys],
    }
    if vectors:
        rows = generator.standard_normal((len(keys), 4))
        columns[EMBEDDING] = embedding_column(rows, np.ones(len(keys), bool))
    return pa.table(columns)
