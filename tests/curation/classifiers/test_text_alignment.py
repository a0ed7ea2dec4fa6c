"""Alignment is the cosine of an image's vector and its caption's, of one model's towers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import paired_cosine_distances

from curation.classifiers import Classifier, TextAlignment, make_classifier
from curation.errors import InputError
from curation.fingerprint import Json
from curation.testing.classifier_contract import ClassifierContract

IMAGES: dict[str, Json] = {"model": "some_tower", "dim": 48}
TEXTS: dict[str, Json] = {"model": "a/b", "dim": 48, "pairs_with": ["some_tower"]}


class TestTextAlignment(ClassifierContract):
    def make(self, *, trust_encoder: bool = False) -> Classifier:
        return make_classifier("text_alignment", trust_encoder=trust_encoder)

    def encoder(self) -> dict[str, Json]:
        return IMAGES


def unit_rows(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, 48))
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float16)


def test_scores_are_scikit_learns_cosines() -> None:
    images, texts = unit_rows(300, 0), unit_rows(300, 1)
    texts[::3] = images[::3]
    expected = 1 - paired_cosine_distances(images.astype(float), texts.astype(float))
    found = TextAlignment().score(images, texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


@given(st.integers(0, 10**6))
def test_a_pair_that_is_equal_or_opposite_stays_in_the_range(seed: int) -> None:
    rows = unit_rows(20, seed)
    scores = TextAlignment().score(
        np.concatenate([rows, rows]), np.concatenate([rows, -rows])
    )
    assert np.all(np.abs(scores) <= 1)
    np.testing.assert_allclose(scores, [1] * 20 + [-1] * 20, rtol=0, atol=2e-3)


def test_a_sample_without_a_usable_caption_has_no_score_and_spoils_no_other() -> None:
    images, texts = unit_rows(6, 0), unit_rows(6, 1)
    expected = TextAlignment().score(images, texts)
    texts[1], texts[2, 0], texts[4, 3] = 0, np.nan, np.inf
    found = TextAlignment().score(images, texts)
    assert np.flatnonzero(np.isnan(found)).tolist() == [1, 2, 4]
    np.testing.assert_array_equal(found[[0, 3, 5]], expected[[0, 3, 5]])


def test_captions_that_are_missing_or_of_another_shape_are_refused() -> None:
    images = unit_rows(4, 0)
    for texts in (None, unit_rows(3, 1), unit_rows(4, 1)[:, :40]):
        with pytest.raises(InputError, match=r"shape \(4, 48\); found"):
            TextAlignment().score(images, texts)


def test_captions_of_another_length_than_one_are_refused_as_captions() -> None:
    with pytest.raises(InputError, match="caption embeddings must be of unit length"):
        TextAlignment().score(unit_rows(4, 0), unit_rows(4, 1) * 3)


def test_towers_of_one_model_go_together() -> None:
    TextAlignment().check_caption_encoder(IMAGES, TEXTS)


@pytest.mark.parametrize("pairs", [None, [], ["another_tower"]])
def test_towers_of_two_models_are_refused_unless_trusted(pairs: Json) -> None:
    texts = TEXTS | {"pairs_with": pairs}
    with pytest.raises(InputError) as caught:
        TextAlignment().check_caption_encoder(IMAGES, texts, "clip_score")
    for part in ("clip_score", "some_tower", "a/b", str(pairs)):
        assert part in str(caught.value)
    TextAlignment(trust_encoder=True).check_caption_encoder(IMAGES, texts)


def test_trust_does_not_mend_another_width_of_captions() -> None:
    with pytest.raises(InputError, match="images have 48 numbers, captions 40"):
        TextAlignment(trust_encoder=True).check_caption_encoder(IMAGES, TEXTS | {"dim": 40})
