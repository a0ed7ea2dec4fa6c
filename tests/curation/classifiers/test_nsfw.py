"""The NSFW score is the original Keras model's, lookups included, from any container."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from curation.classifiers import Classifier, make_classifier
from curation.classifiers.nsfw import LOOKED_UP, SOURCES, VOCABULARIES, WIDTHS, head_shapes
from curation.errors import DataError
from curation.fingerprint import Json
from curation.testing.classifier_contract import ClassifierContract
from tests.conftest import SHARED, needs_shared

LAION = SHARED / "weights/laion"
FILES = {"vit_l_14": "clip_autokeras_binary_nsfw", "vit_b_32": "clip_autokeras_nsfw_b32"}
ENCODERS = {
    "vit_l_14": "vit_large_patch14_clip_quickgelu_224.openai",
    "vit_b_32": "vit_base_patch32_clip_quickgelu_224.openai",
}


def random_head(model: str, *, with_lookups: bool) -> dict[str, np.ndarray]:
    """Make a head of the published shapes, normalised as one of either kind is."""
    rng = np.random.default_rng(7)
    head = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in head_shapes(model).items()
    }
    dim = WIDTHS[model][0]
    head["norm.variance"] = rng.uniform(0.5, 2, dim).astype(np.float32) / dim
    if with_lookups:
        head["norm.mean"][list(LOOKED_UP[model])] = 300
        head["norm.variance"][list(LOOKED_UP[model])] = 300**2
    return head


def keras_score(head: dict[str, np.ndarray], model: str, rows: np.ndarray) -> np.ndarray:
    """Compute as the original does, value by value, in float64."""
    inputs = rows.astype(np.float64)
    if (head["norm.variance"] > 1).any():
        published = load_file(VOCABULARIES)
        for column in LOOKED_UP[model]:
            words = [f"{n / 1e6:f}" for n in published[f"{model}.{column}"].tolist()]
            numbers = {word: number for number, word in enumerate(words, start=1)}
            texts = [f"{value:f}" for value in rows[:, column].tolist()]
            inputs[:, column] = [numbers.get(text, 0) for text in texts]
    layer = (inputs - head["norm.mean"]) / np.sqrt(head["norm.variance"])
    count = len(WIDTHS[model]) - 1
    for i in range(1, count + 1):
        layer = layer @ head[f"linear_{i}.weight"].T + head[f"linear_{i}.bias"]
        layer = np.maximum(layer, 0) if i < count else layer
    return 1 / (1 + np.exp(-layer[:, 0]))


def unit_rows(model: str, count: int = 100) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, WIDTHS[model][0]))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nsfw")
    for model in WIDTHS:
        save_file(random_head(model, with_lookups=True), folder / f"{model}.safetensors")
    return folder


class NsfwContract(ClassifierContract):
    model: str

    @pytest.fixture(autouse=True)
    def _weights(self, folder: Path) -> None:
        self.weights = folder / f"{self.model}.safetensors"

    def make(self, *, trust_encoder: bool = False) -> Classifier:
        return make_classifier(
            "nsfw",
            weights=str(self.weights),
            model=self.model,
            trust_encoder=trust_encoder,
        )

    def encoder(self) -> dict[str, Json]:
        return {"model": ENCODERS[self.model], "dim": WIDTHS[self.model][0]}


class TestForL14(NsfwContract):
    model = "vit_l_14"


class TestForB32(NsfwContract):
    model = "vit_b_32"


@needs_shared
@pytest.mark.parametrize("model", FILES)
def test_scores_are_those_of_the_original_keras_model(model: str) -> None:
    reference = np.load(LAION / f"{FILES[model]}_keras_reference.npz")
    weights = str(LAION / f"{FILES[model]}.safetensors")
    classifier = make_classifier("nsfw", weights=weights, model=model)
    found = classifier.score(reference["embedding"])
    np.testing.assert_allclose(found, reference["nsfw_score"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", WIDTHS)
@pytest.mark.parametrize("with_lookups", [True, False])
def test_any_head_of_these_shapes_scores_as_keras_would(
    model: str, with_lookups: bool, tmp_path: Path
) -> None:
    head = random_head(model, with_lookups=with_lookups)
    save_file(head, tmp_path / "head.safetensors")
    weights = str(tmp_path / "head.safetensors")
    rows = unit_rows(model)
    # values of half precision, and of six decimals, are those that vocabularies have
    vocabulary = load_file(VOCABULARIES)
    for row, column in enumerate(LOOKED_UP[model] * 10):
        rows[row, column] = vocabulary[f"{model}.{column}"][row] / 1e6
    rows /= np.maximum(1, np.linalg.norm(rows, axis=1, keepdims=True))
    halves = rows.astype(np.float16).astype(np.float32)
    classifier = make_classifier("nsfw", weights=weights, model=model)
    for given in (rows, halves):
        expected = keras_score(head, model, given)
        np.testing.assert_allclose(classifier.score(given), expected, rtol=0, atol=1e-5)


def test_values_are_looked_up_as_they_are_written_with_six_decimals() -> None:
    classifier = make_classifier("nsfw")
    vocabulary = load_file(VOCABULARIES)["vit_l_14.180"]
    from curation.classifiers.nsfw import _Vocabulary

    known = _Vocabulary.of(vocabulary, np.zeros(64))
    values = np.concatenate([vocabulary[[0, 1, 5000]] / 1e6, [0.9, -0.9, 1 / 128, np.nan]])
    found = known.numbers(torch.from_numpy(values.astype(np.float32)))
    numbers = {f"{v / 1e6:f}": i for i, v in enumerate(vocabulary.tolist(), start=1)}
    expected = [numbers.get(f"{v:f}", 0) for v in values.astype(np.float32).tolist()]
    assert found.tolist() == expected
    assert expected[:3] == [1, 2, 5001]
    assert classifier.higher_is_better is False


def saved_model(head: dict[str, np.ndarray]) -> bytes:
    """Zip a head as Keras saves one: float32 variables one after another."""
    count = sum(name.startswith("linear") for name in head) // 2
    data = head["norm.mean"].tobytes() + head["norm.variance"].tobytes() + bytes(8)
    for i in range(1, count + 1):
        data += head[f"linear_{i}.weight"].T.tobytes() + head[f"linear_{i}.bias"].tobytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/saved_model.pb", b"not read")
        archive.writestr("model/variables/variables.data-00000-of-00001", data + b"more")
    return buffer.getvalue()


@pytest.mark.parametrize("model", WIDTHS)
def test_keras_own_file_gives_the_same_scores(
    model: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.zip").write_bytes(
        saved_model(load_file(folder / f"{model}.safetensors"))
    )
    theirs = make_classifier("nsfw", weights=str(tmp_path / "model.zip"), model=model)
    ours = make_classifier(
        "nsfw", weights=str(folder / f"{model}.safetensors"), model=model
    )
    rows = unit_rows(model)
    np.testing.assert_array_equal(theirs.score(rows), ours.score(rows))


@pytest.mark.parametrize("cut", [0, 100, 5_000, -1])
def test_a_damaged_zip_is_refused(cut: int, tmp_path: Path) -> None:
    data = saved_model(random_head("vit_b_32", with_lookups=True))
    (tmp_path / "model.zip").write_bytes(data[:cut])
    classifier = make_classifier(
        "nsfw", weights=str(tmp_path / "model.zip"), model="vit_b_32"
    )
    with pytest.raises(DataError, match=r"model\.zip"):
        classifier.score(unit_rows("vit_b_32"))


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
        archive.writestr("other/variables/variables.data-00000-of-00001", b"short")
    classifier = make_classifier("nsfw", weights=str(tmp_path / "model.zip"))
    with pytest.raises(DataError, match="found 5"):
        classifier.score(unit_rows("vit_l_14"))


def test_columns_that_no_unit_vectors_have_are_refused(tmp_path: Path) -> None:
    head = random_head("vit_l_14", with_lookups=True)
    head["norm.variance"][5] = 77
    save_file(head, tmp_path / "head.safetensors")
    classifier = make_classifier("nsfw", weights=str(tmp_path / "head.safetensors"))
    with pytest.raises(DataError, match=r"columns \(5, 180, 316"):
        classifier.score(unit_rows("vit_l_14"))


def test_a_head_of_the_other_model_is_refused(folder: Path) -> None:
    classifier = make_classifier("nsfw", weights=str(folder / "vit_b_32.safetensors"))
    with pytest.raises(DataError, match=r"expected norm\.mean of shape \(768,\)"):
        classifier.score(unit_rows("vit_l_14"))


@pytest.mark.parametrize("model", WIDTHS)
def test_the_fingerprint_of_published_weights_needs_no_file(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CURATION_CACHE", str(tmp_path))
    classifier = make_classifier("nsfw", model=model)
    assert classifier.weights_sha256() == SOURCES[model].sha256
    assert len(classifier.fingerprint()) == 32
    assert list(tmp_path.iterdir()) == []
