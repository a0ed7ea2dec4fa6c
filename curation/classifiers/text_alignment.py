"""How well a caption fits its image: the CLIP score."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curation.classifiers.base import Classifier, EncoderNeed
from curation.fingerprint import Json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TextAlignment(Classifier):
    """The cosine between an image's embedding and its caption's, -1 to 1.

    Both towers must be of one model; the recipe's ``text_encoder`` names the captions'.
    Good pairs have about 0.3 with OpenAI's models; LAION-400M began at 0.3, and DataComp's
    best simple baseline keeps the highest 30 % by ViT-L/14:
    ``top_fraction(text_alignment, 0.3)``. Scales of different models don't compare.

    Source: Hessel et al., CLIPScore (2021), without its factor; Gadre et al., DataComp,
    arXiv:2304.14108.
    """

    name: ClassVar[str] = "text_alignment"
    score_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    higher_is_better: ClassVar[bool] = True
    reads_captions: ClassVar[bool] = True

    @property
    def needs(self) -> EncoderNeed:
        return EncoderNeed()

    def weights_sha256(self) -> Json:
        return None

    def score_block(
        self, rows: "torch.Tensor", captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        assert captions is not None  # score_all saw to it
        # rounded to float16, the two may be a little longer than 1
        return (rows * captions).sum(dim=1).clamp_(-1, 1)
