"""The linear aesthetic heads are the published layers, for either CLIP model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.classifiers import Classifier, make_classifier
from curation.classifiers.aesthetic_linear import SOURCES
from curation.errors import UnknownNameError
from curation.fingerprint import Json, file_sha256
from curation.testing.classifier_contract import ClassifierContract
from tests.conftest import SHARED, needs_shared

LAION = SHARED / "weights/laion"
DIMS = {"vit_l_14": 768, "vit_b_32": 512}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save random heads as LAION did: a state dict of one linear layer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("linear")
    for model, dim in DIMS.items():
        torch.save(torch.nn.Linear(dim, 1).state_dict(), folder / f"{model}.pth")
    return folder


class LinearContract(ClassifierContract):
    model: str
    encoder_name: str

    @pytest.fixture(autouse=True)
    def _weights(self, folder: Path) -> None:
        self.weights = folder / f"{self.model}.pth"

    def make(self, *, trust_encoder: bool = False) -> Classifier:
        return make_classifier(
            "aesthetic_linear",
            weights=str(self.weights),
            model=self.model,
            trust_encoder=trust_encoder,
        )

    def encoder(self) -> dict[str, Json]:
        return {"model": self.encoder_name, "dim": DIMS[self.model]}


class TestForL14(LinearContract):
    model = "vit_l_14"
    encoder_name = "vit_large_patch14_clip_quickgelu_224.openai"


class TestForB32(LinearContract):
    model = "vit_b_32"
    encoder_name = "vit_base_patch32_clip_quickgelu_224.openai"


@needs_shared
@pytest.mark.parametrize(("model", "ratings"), [("vit_l_14", "l14"), ("vit_b_32", "b32")])
def test_scores_are_those_of_the_published_layer(model: str, ratings: str) -> None:
    file = LAION / SOURCES[model].name
    layer = torch.nn.Linear(DIMS[model], 1)
    layer.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    rows = np.concatenate(
        [np.load(LAION / f"ratings/{ratings}_rating{n}.npy") for n in range(10)]
    )
    with torch.inference_mode():
        expected = layer(torch.from_numpy(rows)).squeeze(1).numpy()
    classifier = make_classifier("aesthetic_linear", weights=str(file), model=model)
    found = classifier.score(rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.all(np.diff(found) > 0)  # people's ratings 0 to 9, in order
    assert file_sha256(file) == SOURCES[model].sha256


def test_an_unknown_clip_model_is_named_with_those_that_have_heads() -> None:
    classifier = make_classifier("aesthetic_linear", model="vit_h_14")
    with pytest.raises(UnknownNameError, match="vit_b_32, vit_l_14"):
        classifier.fingerprint()
    with pytest.raises(UnknownNameError, match="vit_b_32, vit_l_14"):
        classifier.needs  # noqa: B018


def test_the_two_models_have_fingerprints_of_their_own() -> None:
    prints = {make_classifier("aesthetic_linear", model=m).fingerprint() for m in DIMS}
    assert len(prints) == 2
