"""The aesthetic score is that of the published network, layer by layer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.classifiers import Classifier, make_classifier
from curation.classifiers.aesthetic import SOURCE, head_shapes
from curation.errors import DataError, NotFoundError
from curation.fingerprint import Json, file_sha256
from curation.testing.classifier_contract import ClassifierContract
from tests.conftest import SHARED, needs_shared

PUBLISHED = SHARED / "weights/laion" / SOURCE.name
RATINGS = [1.6555, 2.3593, 3.0698, 3.6725, 4.2380, 4.7010, 5.0731, 5.3654, 5.5767, 5.7468]


def published_network() -> torch.nn.Sequential:
    """Build the network as its authors do, with dropout that does nothing now."""
    linear, dropout = torch.nn.Linear, torch.nn.Dropout
    return torch.nn.Sequential(
        linear(768, 1024),
        dropout(0.2),
        linear(1024, 128),
        dropout(0.2),
        linear(128, 64),
        dropout(0.1),
        linear(64, 16),
        linear(16, 1),
    ).eval()


@pytest.fixture(scope="module")
def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return published_network()


@pytest.fixture(scope="module")
def weights(network: torch.nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("aesthetic") / "head.safetensors"
    save_file({f"layers.{name}": t for name, t in network.state_dict().items()}, file)
    return file


class TestAesthetic(ClassifierContract):
    @pytest.fixture(autouse=True)
    def _weights(self, weights: Path) -> None:
        self.weights = weights

    def make(self, *, trust_encoder: bool = False) -> Classifier:
        return make_classifier(
            "aesthetic", weights=str(self.weights), trust_encoder=trust_encoder
        )

    def encoder(self) -> dict[str, Json]:
        return {"model": "vit_large_patch14_clip_quickgelu_224.openai", "dim": 768}

    def test_there_is_one_float_per_row_in_the_range(self, classifier: Classifier) -> None:
        scores = self.score(classifier, self.embeddings(300))  # of an untrained network
        assert scores.shape == (300,) and scores.dtype == np.float32


def test_folding_the_layers_changes_nothing(
    network: torch.nn.Sequential, weights: Path
) -> None:
    rows = torch.nn.functional.normalize(torch.randn(200, 768), dim=1)
    with torch.inference_mode():
        expected = network(rows).squeeze(1).numpy()
    found = make_classifier("aesthetic", weights=str(weights)).score(rows.numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_shapes_are_those_of_the_network(network: torch.nn.Sequential) -> None:
    shapes = {f"layers.{name}": tuple(t.shape) for name, t in network.state_dict().items()}
    assert head_shapes() == shapes


@needs_shared
def test_laions_ratings_have_the_scores_that_are_on_record() -> None:
    classifier = make_classifier("aesthetic", weights=str(PUBLISHED))
    files = [SHARED / f"weights/laion/ratings/l14_rating{n}.npy" for n in range(10)]
    rows = np.concatenate([np.load(file) for file in files])
    np.testing.assert_allclose(classifier.score(rows), RATINGS, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        classifier.score(rows.astype(np.float16)), RATINGS, rtol=0, atol=5e-3
    )


@needs_shared
def test_the_pinned_hash_is_the_published_files_and_so_the_fingerprint() -> None:
    assert file_sha256(PUBLISHED) == SOURCE.sha256
    by_hand = make_classifier("aesthetic", weights=str(PUBLISHED))
    assert by_hand.fingerprint() == make_classifier("aesthetic").fingerprint()


def test_weights_of_another_head_are_refused(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"layers.0.weight": torch.zeros(1024, 512)}, other)
    with pytest.raises(
        DataError, match=r"expected layers\.0\.weight of shape \(1024, 768\)"
    ):
        make_classifier("aesthetic", weights=str(other)).score(
            np.eye(768, dtype=np.float32)
        )


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "harm",)

    file = tmp_path / "head.pth"
    torch.save({"layers.0.weight": Harm()}, file)
    with pytest.raises(DataError, match=r"head\.pth"):
        make_classifier("aesthetic", weights=str(file)).score(np.eye(768, dtype=np.float32))
    assert not (tmp_path / "harm").exists()


def test_a_file_that_is_not_there_is_named_when_scores_are_asked_for() -> None:
    classifier = make_classifier("aesthetic", weights="nowhere.pth")
    with pytest.raises(NotFoundError, match=r"nowhere\.pth"):
        classifier.score(np.eye(768, dtype=np.float32))
