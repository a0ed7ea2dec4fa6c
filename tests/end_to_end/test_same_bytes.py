"""What was made of the same inputs has the same bytes, vectors and scores too."""

from hashlib import sha256

import pytest

from jobs.curate import curate
from resources.progress import LineProgress
from tests.conftest import Curated

MADE = ("embeddings", "scores", "duplicates", "selection", "filtered")


def hashes(curated: Curated) -> dict[str, str]:
    """Hash every artifact that follows from images."""
    files = [file.path for file in curated.output.list_files()]
    kept = [path for path in files if path.startswith(MADE)]
    return {path: sha256(curated.output.read(path)).hexdigest() for path in kept}


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["workers: 2", "workers: 1, batch_size: 7"])
def test_what_is_made_again_has_the_same_bytes(curated: Curated, machine: str) -> None:
    before = hashes(curated)
    assert {path.split("/")[0] for path in before} == {*MADE}
    curated.edit("workers: 1", machine)
    for path in before:
        curated.output.delete(path)
    result = curate(curated.recipe, LineProgress(print))
    assert result.failed == {}
    assert hashes(curated) == before
