"""What an asset over all shards was made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import dagster as dg
import pytest

from curation.recipe import Recipe
from curation.storage import LocalStorage
from curation_assets import failures
from curation_assets.global_asset import current_inputs, made_of, recorded_made_of
from curation_assets.lineage import Lineage
from jobs.asset_definitions import asset_definitions
from jobs.failure_causes import failure_cause
from jobs.instance import open_instance
from tests.conftest import Curated

LINEAGE = Lineage(Recipe(name="test", source="/nowhere", output="/elsewhere"))


def test_order_does_not_matter_and_every_version_does() -> None:
    versions = {"embeddings": {"a": "1", "b": "2"}}
    first = made_of(LINEAGE, "duplicate_groups", versions)
    assert first == made_of(
        LINEAGE, "duplicate_groups", {"embeddings": {"b": "2", "a": "1"}}
    )
    for other in ({"a": "1", "b": "3"}, {"a": "1"}, {"a": "1", "b": "2", "c": "1"}):
        assert made_of(LINEAGE, "duplicate_groups", {"embeddings": other}) != first


def test_what_was_never_made_is_made_of_nothing() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert recorded_made_of(instance, "duplicate_groups") is None


def test_what_a_run_records_is_what_it_should_be_made_of(curated: Curated) -> None:
    lineage = Lineage(curated.recipe)
    with open_instance(curated.recipe) as instance:
        inputs = current_inputs(instance, lineage, "duplicate_groups")
        expected = made_of(lineage, "duplicate_groups", inputs)
        assert recorded_made_of(instance, "duplicate_groups") == expected


@dataclass(frozen=True, kw_only=True)
class Meddled(LocalStorage):
    """A folder in which something happens whenever a file is written."""

    happens: Callable[[], object]

    @contextmanager
    def open_writer(self, path: str) -> Iterator[BinaryIO]:
        self.happens()
        with super().open_writer(path) as file:
            yield file


def test_two_runs_do_not_compare_all_shards_at_once(
    curated: Curated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "SECONDS_BEFORE_RETRY", 0)
    recipe = curated.edit("machine:", "duplicates: {exact: false}\nmachine:")
    others: list[dg.ExecuteInProcessResult] = []

    def compare(**resources: LocalStorage) -> dg.ExecuteInProcessResult:
        definitions = asset_definitions(recipe, **resources)
        return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("duplicate_groups")],
            raise_on_error=False,
        )

    def compare_too() -> None:
        if not others:
            others.append(compare())

    first = compare(output=Meddled(root=curated.output.root, happens=compare_too))
    assert first.success
    (second,) = others
    assert not second.success
    told = failure_cause(instance, second.dagster_run)
    assert f"run {first.run_id} is making duplicate_groups at this moment" in told
    assert "fault of the program" not in told
    assert compare().success
