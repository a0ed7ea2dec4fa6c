"""What a run was about and what it took, as tags of the run: costs are summed up by them.

A run that the command, the sensor, a schedule or a named job starts has the first two from
its start. The step that embeds, which alone holds devices, sets them all when it ends, of
whatever run, and also if it fails; a run that is killed says nothing of its last step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg

from curation_assets.lineage import Lineage

RECIPE = "curation/recipe"
ENCODER = "curation/encoder"
DEVICE = "curation/device"
DEVICES = ("cuda", "cpu")
"""What that tag may be."""
SHARDS = "curation/shards"
"""That were embedded; those that were there already don't count."""
IMAGES = "curation/images"
"""Samples of those shards."""
DEVICE_SECONDS = "curation/device_seconds"
"""Seconds that devices worked on shards, summed over devices: 3,600 are a GPU hour."""
PRIORITY = "dagster/priority"

BY_ITSELF = {PRIORITY: "-1"}
"""What no person waits for comes after what someone launched, whose priority is 0."""


def launch_tags(lineage: Lineage) -> dict[str, str]:
    """Say what a run is about."""
    return {RECIPE: lineage.recipe.name, ENCODER: lineage.recipe.encoder.model}


@dataclass
class EmbeddingCost:
    """What a step has embedded so far, and what it took."""

    device: str = ""
    seconds: float = 0
    shards: int = 0
    images: int = 0

    def count(self, device: str, seconds: float, images: int | None) -> None:
        """Add a shard; one that failed has no images, and counts by its seconds alone."""
        kind = device.partition(":")[0]
        if kind in DEVICES:  # a shard whose workers were all lost has none
            self.device = kind
        self.seconds += seconds
        if images is not None:
            self.shards += 1
            self.images += images


@contextmanager
def record_cost(
    context: dg.AssetExecutionContext, lineage: Lineage
) -> Iterator[EmbeddingCost]:
    """Add to the run's tags, when the block ends, what was embedded and what it took.

    Args:
        context: Of the step.
        lineage: Of the recipe.
    """
    cost = EmbeddingCost()
    try:
        yield cost
    finally:
        run = context.instance.get_run_by_id(context.run.run_id)
        before = run.tags if run else {}  # of an earlier try of the step
        tags = {
            DEVICE: cost.device,
            SHARDS: str(int(before.get(SHARDS, 0)) + cost.shards),
            IMAGES: str(int(before.get(IMAGES, 0)) + cost.images),
            DEVICE_SECONDS: f"{float(before.get(DEVICE_SECONDS, 0)) + cost.seconds:.3f}",
        }
        if cost.device:
            context.instance.add_run_tags(context.run.run_id, launch_tags(lineage) | tags)
