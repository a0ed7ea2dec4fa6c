"""Releases and takedowns with Dagster's records."""

import dagster as dg
import pytest

from curation.errors import InputError, StaleError
from curation.release.manifest import list_releases
from jobs.instance import open_instance
from jobs.release import make_release, make_takedown
from resources.progress import LineProgress
from tests.conftest import Curated

PROGRESS = LineProgress(print)


def recorded(curated: Curated) -> list[str]:
    """Name the releases on record, the newest first."""
    with open_instance(curated.recipe) as instance:
        found = instance.fetch_materializations(dg.AssetKey("release"), limit=9).records
    events = [record.asset_materialization for record in found]
    return [str(event.metadata["name"].value) for event in events if event]


def test_releases_and_takedowns_are_on_record(curated: Curated) -> None:
    first = make_release(curated.recipe, PROGRESS)
    assert first is not None
    make_takedown(curated.recipe, PROGRESS, ["000000003"], name="without")
    assert recorded(curated) == ["without", "small-0001"]


def test_what_is_due_is_named_with_its_cause(curated: Curated) -> None:
    curated.output.delete(curated.artifacts.filtered_tar("00000"))
    with pytest.raises(StaleError, match=r"00000: .*") as caught:
        make_release(curated.recipe, PROGRESS)
    assert "--as-is" in str(caught.value)


def test_an_error_of_the_core_keeps_its_class(curated: Curated) -> None:
    with pytest.raises(InputError, match="can't be the name"):
        make_release(curated.recipe, PROGRESS, name="../elsewhere")
    assert list_releases(curated.output) == []
