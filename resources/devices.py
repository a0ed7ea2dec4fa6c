"""The machine's GPUs or cores as a Dagster resource."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import dagster as dg

from curation.devices import claim_devices


@dataclass(frozen=True)
class Devices:
    """What a run may compute on."""

    kind: Literal["cuda", "cpu", "auto"]
    count: int | None
    shared: bool

    def claim(self, at_most: int) -> AbstractContextManager[tuple[str, ...]]:
        """Take devices for the length of a block; one is enough for a single task."""
        count = 1 if at_most == 1 else self.count
        return claim_devices(self.kind, count, shared=self.shared)


class DevicesResource(dg.ConfigurableResource[Devices]):
    """GPUs that no other run has, or cores."""

    kind: Literal["cuda", "cpu", "auto"]
    count: int | None = None
    shared: bool = False

    def create_resource(self, context: dg.InitResourceContext) -> Devices:
        """Nothing is claimed yet."""
        return Devices(self.kind, self.count, self.shared)
