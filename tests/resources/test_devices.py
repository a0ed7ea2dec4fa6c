"""Devices as a resource."""

import dagster as dg

from resources.devices import DevicesResource


def test_one_task_takes_one_device() -> None:
    resource = DevicesResource(kind="cpu", count=3)
    devices = resource.create_resource(dg.build_init_resource_context())
    with devices.claim(at_most=1) as claimed:
        assert claimed == ("cpu",)
    with devices.claim(at_most=10) as claimed:
        assert claimed == ("cpu",) * 3
