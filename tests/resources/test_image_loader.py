"""The choice of an image loader as a resource."""

import dagster as dg

from curation.image_loaders import LoaderSettings
from curation.recipe import DaliSettings
from resources.image_loader import ImageLoaderResource


def test_the_settings_reach_the_loader() -> None:
    resource = ImageLoaderResource(
        loader="pillow",
        batch_size=7,
        max_pixels=1000,
        rotate_by_exif=True,
        dali={"num_threads": 3, "hardware_decoder_load": 0.5},
    )
    made = resource.create_resource(dg.build_init_resource_context())
    assert made.name == "pillow"
    assert made.settings == LoaderSettings(
        batch_size=7,
        max_pixels=1000,
        rotate_by_exif=True,
        dali=DaliSettings(num_threads=3, hardware_decoder_load=0.5),
    )


def test_the_choice_can_be_left_to_the_device() -> None:
    resource = ImageLoaderResource(
        loader=None, batch_size=None, max_pixels=1000, rotate_by_exif=False, dali={}
    )
    assert resource.create_resource(dg.build_init_resource_context()).name is None
