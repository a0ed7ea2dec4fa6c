"""LAION's aesthetic predictor, version 1: one linear layer on CLIP."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from curation.classifiers.base import Classifier, EncoderNeed
from curation.classifiers.laion import ClipModel, encoder_need, read_head
from curation.fingerprint import Json
from curation.published_weights import (
    PUBLISHED,
    PublishedFile,
    weights_hash,
    weights_path,
)

if TYPE_CHECKING:
    import torch

_FOLDER = (
    "https://github.com/LAION-AI/aesthetic-predictor/raw/"
    "6d122adad522ab246644d9dc1c6d7a3810ee255f"
)

SOURCES: dict[str, PublishedFile] = {
    "vit_l_14": PublishedFile(
        name="sa_0_4_vit_l_14_linear.pth",
        url=f"{_FOLDER}/sa_0_4_vit_l_14_linear.pth",
        sha256="2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba",
    ),
    "vit_b_32": PublishedFile(
        name="sa_0_4_vit_b_32_linear.pth",
        url=f"{_FOLDER}/sa_0_4_vit_b_32_linear.pth",
        sha256="c7b14cead230694acc7b9447974d3cad78003c72da032e402a303b6c2429e85f",
    ),
}


@dataclass(frozen=True)
class AestheticLinearClassifier(Classifier):
    """The rating that people would give a picture, about 1 to 10, by one linear layer.

    Older than ``aesthetic`` and trained on fewer ratings; the only one of LAION's for
    ViT-B/32. The two scales differ: LAION's mean embeddings of pictures rated 0 and 9 score
    -2.5 and 11.3 here, 1.7 and 5.7 there.

    Source: LAION-AI/aesthetic-predictor, README.md.
    """

    name: ClassVar[str] = "aesthetic_linear"
    score_range: ClassVar[tuple[float, float]] = (-5.0, 15.0)
    higher_is_better: ClassVar[bool] = True

    weights: str = PUBLISHED
    """``published``, or a ``.pth`` or ``.safetensors`` file with the layer's tensors."""
    model: ClipModel = "vit_l_14"
    """Which CLIP model the embeddings are of."""

    @property
    def needs(self) -> EncoderNeed:
        return encoder_need(self.model)

    @property
    def encoders(self) -> tuple[str, ...]:
        return self.needs.models

    def check(self) -> None:
        super().check()
        _ = self._affine

    def settings(self) -> dict[str, Json]:
        return {"model": self.model}

    def weights_sha256(self) -> Json:
        return weights_hash(self.weights, self._source)

    def score_block(
        self, rows: "torch.Tensor", _captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        weight, bias = self._affine
        return rows @ weight + bias

    @property
    def _source(self) -> PublishedFile:
        encoder_need(self.model)
        return SOURCES[self.model]

    @cached_property
    def _affine(self) -> "tuple[torch.Tensor, float]":
        import torch

        shapes = {"weight": (1, self.needs.dim or 0), "bias": (1,)}
        head = read_head(weights_path(self.weights, self._source), shapes)
        return torch.from_numpy(head["weight"][0]).float(), float(head["bias"][0])
