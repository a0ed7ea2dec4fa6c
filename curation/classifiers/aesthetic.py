"""LAION's aesthetic predictor, version 2: how much people would like a picture."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from curation.classifiers.base import Classifier, EncoderNeed
from curation.classifiers.laion import encoder_need, read_head
from curation.fingerprint import Json
from curation.published_weights import (
    PUBLISHED,
    PublishedFile,
    weights_hash,
    weights_path,
)

if TYPE_CHECKING:
    import torch

SOURCE = PublishedFile(
    name="sac+logos+ava1-l14-linearMSE.pth",
    url=(
        "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/"
        "6934dd81792f086e613a121dbce43082cb8be85e/sac%2Blogos%2Bava1-l14-linearMSE.pth"
    ),
    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
)

_LAYERS = (0, 2, 4, 6, 7)
_WIDTHS = (768, 1024, 128, 64, 16, 1)


@dataclass(frozen=True)
class AestheticClassifier(Classifier):
    """The rating that people would give a picture, about 1 to 10.

    The published network, 768-1024-128-64-16-1, has no activations between its layers
    (dropout aside, which is for training), so that it is one affine map: computed as one
    product per row, which takes a thousandth of the network's arithmetic.

    Pictures score 5 on average; LAION's subsets begin at 4.5, 5, 6 and 6.5.

    Source: christophschuhmann/improved-aesthetic-predictor, simple_inference.py.
    """

    name: ClassVar[str] = "aesthetic"
    score_range: ClassVar[tuple[float, float]] = (0.0, 10.0)
    higher_is_better: ClassVar[bool] = True

    weights: str = PUBLISHED
    """``published``, or a ``.pth`` or ``.safetensors`` file with the network's tensors."""

    @property
    def needs(self) -> EncoderNeed:
        return encoder_need("vit_l_14")

    @property
    def encoders(self) -> tuple[str, ...]:
        return self.needs.models

    def check(self) -> None:
        super().check()
        _ = self._affine

    def weights_sha256(self) -> Json:
        return weights_hash(self.weights, SOURCE)

    def score_block(
        self, rows: "torch.Tensor", _captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        weight, bias = self._affine
        return rows @ weight + bias

    @cached_property
    def _affine(self) -> "tuple[torch.Tensor, float]":
        import torch

        head = read_head(weights_path(self.weights, SOURCE), head_shapes())
        weight, bias = np.eye(_WIDTHS[0]), np.zeros(_WIDTHS[0])
        for layer in _LAYERS:
            matrix = head[f"layers.{layer}.weight"]
            weight, bias = matrix @ weight, matrix @ bias + head[f"layers.{layer}.bias"]
        return torch.from_numpy(weight[0]).float(), float(bias[0])


def head_shapes() -> dict[str, tuple[int, ...]]:
    """Give the names and shapes of the network's tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (wide, narrow) in zip(_LAYERS, pairwise(_WIDTHS), strict=True):
        shapes[f"layers.{layer}.weight"] = (narrow, wide)
        shapes[f"layers.{layer}.bias"] = (narrow,)
    return shapes
