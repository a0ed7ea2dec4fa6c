"""Settings of the machine reach the loader on every road that embeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation import TimmImageEmbedder
from curation.embedding_workers import EmbeddingTools
from curation.errors import CurationError
from curation.recipe import Recipe
from curation.recipe_tools import embedding_tools
from curation.storage import LocalStorage
from jobs.calibrate import calibrate, draw_images
from jobs.curate import curate
from jobs.doctor import measure_own_parity
from jobs.probe import find_in_folders
from jobs.retry import retry
from resources.progress import LineProgress
from tests.conftest import Curated

SETTINGS = (
    "machine: {batch_size: 3, image_loader: nvimgcodec, dali: {num_threads: 2, "
    "pixels_at_once: 1000000, host_memory_padding: 7}, "
)


class FoundError(CurationError):
    """Ends a road where what it embeds with is known."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[EmbeddingTools]:
    """Note what workers are handed, and go no further."""
    handed: list[EmbeddingTools] = []

    def make(tools: EmbeddingTools, device: str, threads: int | None = None) -> Any:
        handed.append(tools)
        raise FoundError(device)

    monkeypatch.setattr(EmbeddingTools, "make", make)
    return handed


def embed_again(recipe: Recipe, folder: Path) -> None:
    for file in LocalStorage(folder / "curated").list_files("embeddings"):
        (folder / "curated" / file.path).unlink()
    curate(recipe, LineProgress(print), until="embeddings")


ROADS: dict[str, Callable[[Recipe, Path], Any]] = {
    "run": embed_again,
    "run --retry-quarantined": lambda r, _: retry(r, LineProgress(print), ["00000"]),
    "calibrate": lambda r, _: calibrate(r, draw_images(r, 2), print),
    "doctor --parity": lambda r, _: measure_own_parity(r, 2),
    "train-probe": lambda r, folder: find_in_folders(r, folder, folder),
}


@pytest.mark.parametrize("road", ROADS)
def test_a_command_embeds_with_the_recipes_tools(
    road: str, curated: Curated, made: list[EmbeddingTools]
) -> None:
    recipe = curated.edit("machine: {", SETTINGS)
    with pytest.raises(CurationError):
        ROADS[road](recipe, curated.folder)
    (tools,) = made
    assert tools.settings.dali == recipe.machine.dali
    assert tools.settings.batch_size == 3
    if road != "calibrate":  # which decodes images as they are stored
        assert tools == embedding_tools(recipe)


def test_a_notebook_embeds_with_the_same_loader(curated: Curated) -> None:
    recipe = curated.edit("machine: {", SETTINGS)
    theirs, _ = embedding_tools(recipe).make("cpu")
    encoder = recipe.encoder
    ours = TimmImageEmbedder(encoder.model, encoder.weights, 3, 2, device="cpu")._loader
    assert (ours.name, ours.transform) == (theirs.name, theirs.transform)
    assert ours.settings.slots == theirs.settings.slots
    assert ours.settings.dali.num_threads == theirs.settings.dali.num_threads
