"""Costs are the sums of the tags that runs left, whoever started them."""

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from jobs.costs import Cost, sum_costs
from jobs.instance import open_instance
from tests.conftest import Curated


def test_runs_are_summed_up_by_recipe_encoder_and_device() -> None:
    def tags(recipe: str, device: str, shards: int, images: int, seconds: str) -> None:
        about = {"recipe": recipe, "encoder": "vit", "device": device}
        counts = {"shards": shards, "images": images, "device_seconds": seconds}
        wanted = {
            f"curation/{name}": str(value) for name, value in (about | counts).items()
        }
        create_run_for_test(instance, tags=wanted)

    with dg.DagsterInstance.ephemeral() as instance:
        tags("b", "cuda", 2, 20, "1.5")
        tags("b", "cuda", 1, 10, "0.25")
        tags("b", "cpu", 1, 7, "9.000")
        tags("a", "cuda", 3, 30, "2.0")
        create_run_for_test(instance, tags={"curation/recipe": "a"})  # embedded nothing
        assert sum_costs(instance) == [
            Cost("a", "vit", "cuda", 1, 3, 30, 2.0),
            Cost("b", "vit", "cpu", 1, 1, 7, 9.0),
            Cost("b", "vit", "cuda", 2, 3, 30, 1.75),
        ]


def test_the_demos_runs_are_accounted_for(curated: Curated) -> None:
    with open_instance(curated.recipe) as instance:
        (cost,) = sum_costs(instance)
        device_seconds = sum(
            float(str(record.asset_materialization.metadata["seconds"].value))
            for record in instance.fetch_materializations(
                dg.AssetKey("embeddings"), limit=9
            ).records
            if record.asset_materialization
        )
    assert (cost.recipe, cost.device, cost.num_shards) == ("small", "cpu", 3)
    assert cost.num_images == 240
    assert cost.device_seconds == pytest.approx(device_seconds, abs=0.01)
