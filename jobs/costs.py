"""What embedding has cost, summed up from the tags that runs leave behind."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from curation_assets.run_tags import (
    DEVICE,
    DEVICE_SECONDS,
    DEVICES,
    ENCODER,
    IMAGES,
    RECIPE,
    SHARDS,
)


@dataclass(frozen=True)
class Cost:
    """What the runs of one recipe with one encoder took on one kind of device."""

    recipe: str
    encoder: str
    device: str
    """``cuda`` or ``cpu``."""
    num_runs: int
    num_shards: int
    num_images: int
    device_seconds: float
    """That devices worked on shards, summed over devices."""

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def sum_costs(instance: dg.DagsterInstance) -> list[Cost]:
    """Sum up every run on record that embedded something, by recipe, encoder and device."""
    runs = defaultdict(list)
    for run in instance.get_runs(dg.RunsFilter(tags={DEVICE: list(DEVICES)})):
        tags = run.tags
        runs[tags[RECIPE], tags[ENCODER], tags[DEVICE]].append(tags)
    return [
        Cost(
            recipe,
            encoder,
            device,
            num_runs=len(tags),
            num_shards=sum(int(each[SHARDS]) for each in tags),
            num_images=sum(int(each[IMAGES]) for each in tags),
            device_seconds=sum(float(each[DEVICE_SECONDS]) for each in tags),
        )
        for (recipe, encoder, device), tags in sorted(runs.items())
    ]
