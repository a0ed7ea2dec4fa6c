"""What a run was about and what it took, as tags of the run: costs are summed up by them.

A run that the command, the sensor, a schedule or a named job starts has the first two from
its start. The step that embeds, which alone holds devices, sets them all when it ends, of
whatever run, and also if it fails; a run that is killed says nothing of its last step.
"""

import time
from collections.abc import Iterator, Sequence
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
"""Seconds that devices were held, summed over devices: 3,600 are a GPU hour."""
PRIORITY = "dagster/priority"

BY_ITSELF = {PRIORITY: "-1"}
"""What no person waits for comes after what someone launched, whose priority is 0."""


def launch_tags(lineage: Lineage) -> dict[str, str]:
    """Say what a run is about."""
    return {RECIPE: lineage.recipe.name, ENCODER: lineage.recipe.encoder.model}


@dataclass
class Embedded:
    """What a step has embedded so far."""

    shards: int = 0
    images: int = 0

    def count(self, images: int | None) -> None:
        """Add a shard; None is one that failed, and doesn't count."""
        if images is not None:
            self.shards += 1
            self.images += images


@contextmanager
def record_cost(
    context: dg.AssetExecutionContext, lineage: Lineage, devices: Sequence[str]
) -> Iterator[Embedded]:
    """Add to the run's tags, when the block ends, what was embedded and how long it took.

    Args:
        context: Of the step.
        lineage: Of the recipe.
        devices: Those that the block holds, as ``cuda:0`` or ``cpu``.
    """
    embedded = Embedded()
    start = time.monotonic()
    try:
        yield embedded
    finally:
        seconds = (time.monotonic() - start) * len(devices)
        run = context.instance.get_run_by_id(context.run.run_id)
        before = run.tags if run else {}  # of an earlier try of the step
        tags = {
            DEVICE: devices[0].partition(":")[0],
            SHARDS: str(int(before.get(SHARDS, 0)) + embedded.shards),
            IMAGES: str(int(before.get(IMAGES, 0)) + embedded.images),
            DEVICE_SECONDS: f"{float(before.get(DEVICE_SECONDS, 0)) + seconds:.3f}",
        }
        context.instance.add_run_tags(context.run.run_id, launch_tags(lineage) | tags)
