"""A flipped bit, anywhere in anything that a run and a release write, is noticed.

But for the padding of a filtered tar, which is nobody's: it may be anything in a raw tar.

By hand, longer, with what is tried printed:

    CURATION_DAMAGE_FLIPS=500 python -m pytest -s tests/end_to_end/test_damage.py
"""

import io
import os
import tarfile
from collections import Counter
from pathlib import Path
from random import Random

from curation.errors import CurationError
from curation.verify import verify_shards
from jobs.release import make_release
from resources.progress import LineProgress
from tests.conftest import Curated

FLIPS = int(os.environ.get("CURATION_DAMAGE_FLIPS", "6"))
"""Bits of one file of each kind, beside those of its first and last byte."""
WRITTEN_BY_PEOPLE = ("releases.md",)
"""The data card, of which parts are there to be edited."""
LOOKED_AT_BY_RUNS = ("recipes.json",)
"""Who writes to the output: `run` and `release` read it, `verify` does not."""


def kinds_of(root: Path) -> dict[str, list[Path]]:
    """Group all files by their top folder and suffix."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).parts[0] + (path.suffix or path.name)
        if path.name == "manifest.json":
            name = "manifest.json"
        kinds.setdefault(name, []).append(path)
    return kinds


def test_a_flipped_bit_of_anything_is_noticed_by_verify(curated: Curated) -> None:
    output, random = curated.output, Random(FLIPS)
    curated.edit("machine:", "release: {npy: true}\nmachine:")
    assert make_release(curated.recipe, LineProgress(print))
    assert verify_shards(output).differences == ()
    kinds = kinds_of(output.root)
    assert {"embeddings.parquet", "filtered.tar", "index.idx", "releases.npy"} <= {*kinds}
    tried, missed = Counter[str](), Counter[str]()
    for kind, paths in kinds.items():
        if kind in WRITTEN_BY_PEOPLE + LOOKED_AT_BY_RUNS:
            continue
        place = random.choice(paths)
        whole = place.read_bytes()
        for byte in (0, len(whole) - 1, *random.choices(range(len(whole)), k=FLIPS)):
            if kind == "filtered.tar" and is_padding(whole, byte):
                continue
            harmed = bytearray(whole)
            harmed[byte] ^= 1 << random.randrange(8)
            place.write_bytes(harmed)
            tried[kind] += 1
            if not noticed(curated):
                missed[kind] += 1
                print(f"missed: bit of byte {byte} of {len(whole)} of {place}")
        place.write_bytes(whole)
    print(f"{tried.total()} bits flipped, false {missed.total()}: {dict(tried)}")
    assert missed == Counter()


def is_padding(tar: bytes, byte: int) -> bool:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        members = list(opened)
    return all(
        not member.offset <= byte < member.offset_data + member.size for member in members
    )


def noticed(curated: Curated) -> bool:
    try:
        return bool(verify_shards(curated.output).differences)
    except CurationError:
        return True
