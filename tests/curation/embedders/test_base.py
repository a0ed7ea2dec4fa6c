"""An embedder of one's own needs five short methods, and does what every embedder does."""

from dataclasses import dataclass

import pytest
import torch

from curation.embedders import make_embedder
from curation.embedders.base import Embedder
from curation.errors import InputError, UnknownNameError
from curation.fingerprint import Json
from curation.image_transform import ImageTransform
from curation.testing.embedder_contract import EmbedderContract


@dataclass
class Tiles(Embedder):
    """Mean colours of 4 x 4 tiles."""

    device: str = "cpu"
    transform = ImageTransform(height=16, width=16, resize=(16, 16))
    dim = 48

    def on(self, device: str) -> "Tiles":
        return Tiles(device)

    def encoder(self) -> dict[str, Json]:
        return {"kind": "tiles"}

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        tiles = pixels.float().unflatten(1, (4, 4)).unflatten(3, (4, 4))
        return tiles.mean(dim=(2, 4)).flatten(1) + 1


class TestTiles(EmbedderContract):
    def make(self) -> Tiles:
        return Tiles()


def test_an_image_that_does_not_fit_alone_is_an_error_that_says_what_to_do() -> None:
    class TooLarge(Tiles):
        def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError

    pixels = torch.zeros((4, 16, 16, 3), dtype=torch.uint8)
    with pytest.raises(InputError, match="too little memory for one image"):
        TooLarge().embed(pixels)


def test_long_vectors_are_normalised_in_full_precision() -> None:
    class Long(Tiles):
        def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.full((len(pixels), 1024), 300.0, dtype=torch.float16)

    vectors = Long().embed(torch.zeros((2, 16, 16, 3), dtype=torch.uint8))
    torch.testing.assert_close(vectors, torch.full((2, 1024), 1 / 32, dtype=torch.float16))


def test_an_unknown_embedder_lists_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match="timm"):
        make_embedder("time", model="x")
