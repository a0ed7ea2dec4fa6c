"""What an asset over all shards was made of."""

import dagster as dg

from curation.recipe import Recipe
from curation_assets.global_asset import current_inputs, made_of, recorded_made_of
from curation_assets.lineage import Lineage
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
