"""The records of a curated dataset, and the comparison of its embeddings in many bins."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from curation.dedup import semantic, upkeep
from jobs.asset_definitions import asset_definitions
from jobs.instance import open_instance
from resources.progress import LineProgress
from tests.conftest import Curated

Make = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance that the curated dataset is recorded in."""
    with open_instance(curated.recipe) as opened:
        yield opened


@pytest.fixture
def comparing(curated: Curated, monkeypatch: pytest.MonkeyPatch) -> Curated:
    """Compare embeddings in cells of some 16 rows, and in several bins."""
    monkeypatch.setattr(semantic, "ROWS_IN_ONE_CELL", 16)
    monkeypatch.setattr(upkeep, "ROWS_PER_BIN", 40)
    curated.edit("machine:", "duplicates: {min_similarity: 0.95}\nmachine:")
    return curated


@pytest.fixture
def make(comparing: Curated, instance: dg.DagsterInstance) -> Make:
    """Materialize one asset, of one partition or none."""
    definitions = asset_definitions(comparing.recipe, progress=LineProgress(print))
    job = definitions.resolve_implicit_global_asset_job_def()

    def run(asset: str, partition: str | None = None, **config: Any) -> Any:
        return job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(asset)],
            partition_key=partition,
            run_config={"ops": {asset: {"config": config}}} if config else None,
            raise_on_error=False,
        )

    return run
