"""What a picture shows, by prompts: CLIP as a classifier that nobody has to train."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from curation.classifiers.base import Classifier, EncoderNeed
from curation.errors import InputError
from curation.fingerprint import Json, file_sha256
from curation.text_embedders.open_clip import HUB, IMAGE_TOWERS, OpenClipTextEmbedder

if TYPE_CHECKING:
    import torch

LOGIT_SCALE = 100.0
"""What CLIP multiplies cosines by before its softmax, learnt and then bounded at this."""


@dataclass(frozen=True)
class ZeroShot(Classifier):
    """The probability that an image fits ``prompts`` rather than ``against``, 0 to 1.

    A softmax over the cosines with all prompts; the score is the share of ``prompts``. It
    says which side fits better, not that either fits: name in ``against`` what the other
    images show. ::

        screenshot:
          type: zero_shot
          prompts: [a screenshot of a web page, a screenshot of an app]
          against: [a photograph, a drawing]

    Source: Radford et al., CLIP, arXiv:2103.00020, section 3.1.
    """

    name: ClassVar[str] = "zero_shot"
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True

    prompts: tuple[str, ...] = ()
    """What a high score is to mean."""
    against: tuple[str, ...] = ()
    """What a low score is to mean."""
    text_model: str = "ViT-L-14-quickgelu"
    """open_clip's name of the model whose image tower made the embeddings."""
    text_pretrained: str = "openai"
    """open_clip's tag of its weights."""
    text_weights: str = HUB
    """``hub``, or a file of those weights."""

    def __post_init__(self) -> None:
        for setting in ("prompts", "against"):
            texts = getattr(self, setting)
            listed = isinstance(texts, list | tuple)
            if not (listed and texts and all(map(_says_something, texts))):
                raise InputError(
                    f"zero_shot needs {setting}: a list of texts such as [a photo of a "
                    f"dog]; found {texts!r}"
                )
            object.__setattr__(self, setting, tuple(texts))

    @property
    def needs(self) -> EncoderNeed:
        return EncoderNeed(dim=self._embedder.dim, models=self.encoders)

    @property
    def encoders(self) -> tuple[str, ...]:
        key = (self.text_model, self.text_pretrained)
        if key not in IMAGE_TOWERS and not self.trust_encoder:
            raise InputError(
                f"zero_shot: which embeddings go with the texts of {'/'.join(key)} is not "
                "known; if yours do, set trust_encoder: true"
            )
        return IMAGE_TOWERS.get(key, ())

    def check(self) -> None:
        super().check()
        self._embedder.check()

    def settings(self) -> dict[str, Json]:
        return {
            "prompts": list(self.prompts),
            "against": list(self.against),
            "text_model": self.text_model,
            "text_pretrained": self.text_pretrained,
        }

    def weights_sha256(self) -> Json:
        # the tag, which is among the settings, names the published ones: to hash them,
        # whoever opens a graph would have to fetch them
        return None if self.text_weights == HUB else file_sha256(Path(self.text_weights))

    def score_block(
        self, rows: "torch.Tensor", _captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        shares = (rows @ self._directions).softmax(dim=1)
        return shares[:, : len(self.prompts)].sum(dim=1).clamp_(max=1)

    @cached_property
    def _embedder(self) -> OpenClipTextEmbedder:
        return OpenClipTextEmbedder(
            self.text_model, self.text_pretrained, self.text_weights
        )

    @cached_property
    def _directions(self) -> "torch.Tensor":
        """The prompts' embeddings as columns, scaled: ``(dim, prompts + against)``."""
        import torch

        vectors = self._embedder.embed([*self.prompts, *self.against])
        return torch.from_numpy(vectors).float().T.contiguous() * LOGIT_SCALE


def _says_something(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())
