"""What a recipe embeds with."""

import pytest

from curation.devices import visible_gpus
from curation.errors import InputError
from curation.recipe import MachineSettings, Recipe
from jobs.embedding_tools import embedding_tools, first_device

RECIPE = Recipe(name="test", source="/nowhere", output="/elsewhere")


def on(device: str) -> Recipe:
    machine = MachineSettings.model_validate({"device": device, "batch_size": 7})
    return RECIPE.model_copy(update={"machine": machine})


def test_the_settings_reach_loader_and_embedder() -> None:
    tools = embedding_tools(on("cpu"))
    assert tools.loader is None
    assert tools.settings.batch_size == 7
    assert tools.embedder.model == RECIPE.encoder.model  # type: ignore[attr-defined]


def test_auto_is_a_gpu_if_there_is_one() -> None:
    assert first_device(on("cpu")) == "cpu"
    assert first_device(on("auto")) == ("cuda:0" if visible_gpus() else "cpu")


@pytest.mark.skipif(bool(visible_gpus()), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError, match="set it to auto"):
        first_device(on("cuda"))
