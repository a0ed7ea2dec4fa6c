"""A probe's score is the probability that scikit-learn gives, of its own encoder only."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from curation.classifiers import Classifier, LinearProbe, make_classifier
from curation.classifiers.linear_probe import FORMAT, METADATA_KEY
from curation.errors import DataError, InputError, NotFoundError
from curation.fingerprint import Json
from curation.testing.classifier_contract import ClassifierContract

ENCODER: dict[str, Json] = {
    "model": "some_tower",
    "weights_sha256": "ab" * 32,
    "preprocessing": {"size": 224},
    "precision": "fp32",
    "dim": 32,
}


def fitted() -> LogisticRegression:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((200, 32)) / np.sqrt(32)
    return LogisticRegression(C=100).fit(rows, rows[:, 0] + rows[:, 3] > 0)


def save(file: Path, **changes: object) -> Path:
    """Write a probe's file, or one that differs from a probe's."""
    model = fitted()
    tensors = {
        "weight": model.coef_[0].astype(np.float32),
        "bias": model.intercept_.astype(np.float32),
    }
    tensors |= changes.pop("tensors", {})  # type: ignore[arg-type]
    record = {"format": FORMAT, "encoder": ENCODER, "metrics": {}, "keys": {}} | changes
    save_file(tensors, file, {METADATA_KEY: json.dumps(record)})
    return file


@pytest.fixture(scope="module")
def probe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("probe") / "probe.safetensors")


class TestLinearProbe(ClassifierContract):
    @pytest.fixture(autouse=True)
    def _file(self, probe_file: Path) -> None:
        self.file = probe_file

    def make(self, *, trust_encoder: bool = False) -> Classifier:
        return make_classifier(
            "linear_probe", weights=str(self.file), trust_encoder=trust_encoder
        )

    def encoder(self) -> dict[str, Json]:
        return ENCODER


def unit_rows(count: int = 100) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, 32)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def test_scores_are_scikit_learns_probabilities(probe_file: Path) -> None:
    rows = unit_rows()
    expected = fitted().predict_proba(rows)[:, 1]
    found = LinearProbe(weights=str(probe_file)).score(rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("weights_sha256", "cd" * 32),
        ("preprocessing", {"size": 256}),
        ("model", "some_other_tower"),
    ],
)
def test_an_encoder_that_differs_in_any_part_is_refused_with_both_named(
    part: str, value: Json, probe_file: Path
) -> None:
    probe = LinearProbe(weights=str(probe_file))
    other = ENCODER | {part: value}
    with pytest.raises(InputError) as caught:
        probe.check_encoder(other, "dogs")
    message = str(caught.value)
    assert "classifier dogs" in message and f"{part} is {value}" in message
    assert "some_tower" in message and str(other["model"]) in message
    LinearProbe(weights=str(probe_file), trust_encoder=True).check_encoder(other)


def test_another_file_is_another_fingerprint_and_another_path_is_not(
    probe_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(probe_file.read_bytes())
    other = save(tmp_path / "other.safetensors", metrics={"roc_auc": 0.5})
    first, second, third = (
        LinearProbe(weights=str(file)).fingerprint() for file in (probe_file, copy, other)
    )
    assert first == second != third


def test_a_missing_file_says_how_to_make_one() -> None:
    for weights in ("", "nowhere.safetensors"):
        with pytest.raises(NotFoundError, match="curate train-probe"):
            LinearProbe(weights=weights).score(unit_rows())


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0not json"],
    ids=["empty", "a page", "noise", "no header"],
)
def test_a_damaged_file_is_refused(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "probe.safetensors"
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"probe\.safetensors"):
        LinearProbe(weights=str(file)).score(unit_rows())


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {METADATA_KEY: "{not json"}, {METADATA_KEY: "[1]"}, {METADATA_KEY: "{}"}],
    ids=str,
)
def test_a_file_that_does_not_say_it_is_a_probe_is_refused(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    file = tmp_path / "head.safetensors"
    save_file({"weight": np.zeros(32, np.float32)}, file, metadata)
    with pytest.raises(DataError, match=r"head\.safetensors: .*probe"):
        LinearProbe(weights=str(file)).score(unit_rows())


@pytest.mark.parametrize("encoder", [None, "tower", {}, {"dim": "wide"}, {"dim": None}])
def test_a_probe_that_does_not_say_its_encoder_is_refused(
    encoder: object, tmp_path: Path
) -> None:
    file = save(tmp_path / "probe.safetensors", encoder=encoder)
    with pytest.raises(DataError, match="does not say which encoder"):
        LinearProbe(weights=str(file)).score(unit_rows())


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": np.zeros(31, np.float32)},
        {"weight": np.zeros((32, 1), np.float32)},
        {"bias": np.zeros(2, np.float32)},
        {"weight": np.full(32, np.nan, np.float32)},
        {"bias": np.full(1, np.inf, np.float32)},
    ],
    ids=["short", "matrix", "two biases", "nan", "infinite"],
)
def test_tensors_that_are_no_line_are_refused(
    tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file = save(tmp_path / "probe.safetensors", tensors=tensors)
    with pytest.raises(DataError, match=r"probe\.safetensors: "):
        LinearProbe(weights=str(file)).score(unit_rows())
