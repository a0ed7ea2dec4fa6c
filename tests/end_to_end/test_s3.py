"""Raw shards, artifacts and filtered shards on a real S3 server."""

from pathlib import Path

import pytest

from curation.storage import S3Settings, S3Storage
from curation.verify import verify_shards
from jobs.curate import curate
from resources.progress import LineProgress
from tests.conftest import Curated


@pytest.fixture
def on_s3(curated: Curated, s3_storage: S3Storage) -> tuple[Curated, S3Storage]:
    """Put the raw shards on the server, and have everything written there."""
    for file in curated.source.list_files(suffix=".tar"):
        s3_storage.write(f"raw/{file.path}", curated.source.read(file.path))
    settings: S3Settings = s3_storage.settings
    curated.edit("source: raw", f"source: {s3_storage.url}/raw")
    curated.edit("output: curated", f"output: {s3_storage.url}/made")
    curated.edit(
        "machine:",
        f"s3: {{endpoint_url: '{settings.endpoint_url}', region: {settings.region}}}\n"
        "machine:",
    )
    return curated, s3_storage


def test_the_same_is_made_on_s3_as_in_a_folder(
    on_s3: tuple[Curated, S3Storage], tmp_path: Path
) -> None:
    curated, server = on_s3
    result = curate(curated.recipe, LineProgress(print))
    assert result.failed == {}
    # tars were fetched to copies, which are gone since they were embedded
    assert [path.name for path in (tmp_path / "cache" / "curation").iterdir()] == [".lock"]
    names = [f.path for f in curated.output.list_files("filtered")]
    assert names == [
        f.path.removeprefix("made/") for f in server.list_files("made/filtered")
    ]
    for name in names:
        if not name.endswith(".parquet"):  # tables name the storage's versions
            assert server.read(f"made/{name}") == curated.output.read(name)
    assert verify_shards(server, "made/filtered").differences == ()
    assert curate(curated.recipe, LineProgress(print)).num_runs == 0
