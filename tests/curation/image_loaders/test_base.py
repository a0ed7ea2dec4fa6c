"""Settings of loaders are checked, and have a default for each device."""

import pytest

from curation.errors import InputError, UnknownNameError
from curation.image_loaders import IMAGE_LOADERS, LoaderSettings, make_image_loader
from curation.testing.image_loader_contract import SMALL


def test_every_loader_can_be_made_by_its_name() -> None:
    for name in IMAGE_LOADERS:
        assert make_image_loader(name, SMALL, LoaderSettings()).name == name


def test_an_unknown_loader_lists_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match="dali, nvimgcodec, pillow"):
        make_image_loader("dalle", SMALL, LoaderSettings())


@pytest.mark.parametrize("setting", ["batch_size", "max_pixels"])
def test_sizes_below_one_are_refused(setting: str) -> None:
    with pytest.raises(InputError, match=setting):
        LoaderSettings(**{setting: 0})


def test_a_gpu_has_larger_batches_unless_told_otherwise() -> None:
    assert LoaderSettings(device="cuda:0").slots > LoaderSettings(device="cpu").slots
    assert LoaderSettings(5, "cuda").slots == LoaderSettings(5).slots == 5
