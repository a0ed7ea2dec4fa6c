"""What every classifier must do, as tests that a member's test class inherits."""

import pickle
from abc import ABC, abstractmethod
from functools import partial

import numpy as np
import pytest

from curation.classifiers.base import BLOCK_ROWS, Classifier
from curation.errors import InputError
from curation.fingerprint import Json
from curation.testing.torch_threads import with_threads


class ClassifierContract(ABC):
    """Subclass it as ``Test…`` and say how to make a classifier and what it understands."""

    @pytest.fixture
    def classifier(self) -> Classifier:
        """Give a classifier that has read nothing yet."""
        return self.make()

    @abstractmethod
    def make(self, *, trust_encoder: bool = False) -> Classifier:
        """Make a classifier."""

    @abstractmethod
    def encoder(self) -> dict[str, Json]:
        """Give an encoder that it was made for, with its ``dim``."""

    def embeddings(self, count: int, seed: int = 0) -> np.ndarray:
        """Make ``(count, dim)`` float16 random rows of unit length."""
        dim = int(str(self.encoder()["dim"]))
        rows = np.random.default_rng(seed).standard_normal((count, dim))
        unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit.astype(np.float16)

    def score(self, classifier: Classifier, rows: np.ndarray) -> np.ndarray:
        """Score rows, and captions' embeddings of the same count if it reads them."""
        captions = self.embeddings(len(rows), seed=1)
        scores: np.ndarray = classifier.score(
            rows, captions if classifier.reads_captions else None
        )
        return scores

    def test_there_is_one_float_per_row_in_the_range(self, classifier: Classifier) -> None:
        scores = self.score(classifier, self.embeddings(300))
        assert scores.shape == (300,)
        assert scores.dtype == np.float32
        low, high = classifier.score_range
        assert np.all((scores >= low) & (scores <= high))
        assert len(np.unique(scores)) > 1

    def test_no_rows_have_no_scores(self, classifier: Classifier) -> None:
        assert self.score(classifier, self.embeddings(0)).shape == (0,)

    def test_a_row_has_its_score_whatever_its_neighbours(
        self, classifier: Classifier
    ) -> None:
        rows = self.embeddings(BLOCK_ROWS + 5)
        scores = self.score(classifier, rows)
        for part in (slice(0, 1), slice(3, 40), slice(BLOCK_ROWS - 2, None)):
            captions = self.embeddings(len(rows), seed=1)[part]
            found = classifier.score(
                rows[part], captions if classifier.reads_captions else None
            )
            np.testing.assert_allclose(found, scores[part], rtol=1e-4, atol=1e-5)

    def test_scores_have_the_same_bits_whatever_the_threads(
        self, classifier: Classifier
    ) -> None:
        rows = self.embeddings(2 * BLOCK_ROWS + 5)
        expected = with_threads(1, partial(self.score, classifier, rows))
        for threads in (2, 3):
            found = with_threads(threads, partial(self.score, self.make(), rows))
            np.testing.assert_array_equal(found, expected)

    def test_half_and_single_floats_of_one_value_score_alike(
        self, classifier: Classifier
    ) -> None:
        rows = self.embeddings(50)
        expected = self.score(classifier, rows)
        found = self.score(classifier, rows.astype(np.float32))
        np.testing.assert_array_equal(found, expected)

    def test_rows_without_direction_have_no_score_and_spoil_no_other(
        self, classifier: Classifier
    ) -> None:
        rows = self.embeddings(8)
        expected = self.score(classifier, rows)
        rows[1] = 0
        rows[3, 0] = np.nan
        rows[6, 2] = -np.inf
        found = self.score(classifier, rows)
        assert np.flatnonzero(np.isnan(found)).tolist() == [1, 3, 6]
        good = [0, 2, 4, 5, 7]
        np.testing.assert_allclose(found[good], expected[good], rtol=1e-4, atol=1e-6)

    def test_rows_of_another_length_are_refused(self, classifier: Classifier) -> None:
        rows = self.embeddings(5).astype(np.float32)
        rows[4] *= 9.5
        with pytest.raises(InputError, match=r"row 4 has length 9\.5"):
            self.score(classifier, rows)

    @pytest.mark.parametrize("dtype", [np.float64, np.int8])
    def test_another_type_is_refused(self, classifier: Classifier, dtype: type) -> None:
        with pytest.raises(InputError, match=f"found shape.* of {np.dtype(dtype)}"):
            self.score(classifier, self.embeddings(2).astype(dtype))

    def test_another_width_is_refused(self, classifier: Classifier) -> None:
        if classifier.needs.dim is not None:
            rows = self.embeddings(2)[:, :-1]
            with pytest.raises(InputError, match=f"takes rows of {rows.shape[1] + 1} num"):
                self.score(classifier, rows)

    def test_rows_are_left_as_they_are(self, classifier: Classifier) -> None:
        rows = self.embeddings(4).astype(np.float32)
        copy = rows.copy()
        self.score(classifier, rows)
        np.testing.assert_array_equal(rows, copy)
        rows.flags.writeable = False
        self.score(classifier, rows)

    def test_a_copy_sent_to_another_process_gives_the_same(
        self, classifier: Classifier
    ) -> None:
        rows = self.embeddings(20)
        expected = self.score(classifier, rows)
        data = pickle.dumps(classifier)
        assert len(data) < 2_000  # settings travel, not weights
        copy = pickle.loads(data)
        assert copy == classifier
        assert copy.fingerprint() == classifier.fingerprint()
        np.testing.assert_array_equal(self.score(copy, rows), expected)

    def test_its_own_encoder_is_accepted_in_any_precision(
        self, classifier: Classifier
    ) -> None:
        classifier.check_encoder(self.encoder())
        classifier.check_encoder(self.encoder() | {"precision": "bf16"})

    def test_another_encoder_is_refused_with_both_sides_named(
        self, classifier: Classifier
    ) -> None:
        other = self.encoder() | {"model": "another_model"}
        if classifier.reads_captions:
            return  # it takes any encoder whose other tower embedded the captions
        with pytest.raises(InputError) as caught:
            classifier.check_encoder(other, "my_column")
        for part in ("my_column", "another_model", str(self.encoder()["model"])):
            assert part in str(caught.value)
        self.make(trust_encoder=True).check_encoder(other)

    def test_trust_does_not_mend_another_width(self) -> None:
        trusting = self.make(trust_encoder=True)
        if trusting.needs.dim is not None:
            with pytest.raises(InputError, match="this encoder's have 7"):
                trusting.check_encoder({"model": "another_model", "dim": 7})
