"""The records of a curated dataset."""

from collections.abc import Iterator

import dagster as dg
import pytest

from jobs.instance import open_instance
from tests.conftest import Curated


@pytest.fixture
def instance(curated: Curated) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance that the curated dataset is recorded in."""
    with open_instance(curated.recipe) as opened:
        yield opened
