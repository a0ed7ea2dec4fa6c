"""What every text embedder must do, as tests that a member's test class inherits."""

import json
import pickle
from abc import ABC, abstractmethod
from functools import partial

import numpy as np
import pytest

from curation.testing.torch_threads import with_threads
from curation.text_embedders.base import TextEmbedder

TEXTS = [
    "a photo of a dog",
    "ein Hund über den Bergen",
    "一只狗",
    "",
    "?!",
    "🐕" * 40,
    "<script>alert('&amp;')</script>\x00\r\n",
    "a dog " * 500,
]


class TextEmbedderContract(ABC):
    """Subclass it as ``Test…`` and say how to make a text embedder."""

    @abstractmethod
    def make(self) -> TextEmbedder:
        """Make a text embedder."""

    @pytest.fixture
    def embedder(self) -> TextEmbedder:
        """Give a text embedder that has loaded nothing yet."""
        return self.make()

    def test_any_text_has_one_float16_row_of_unit_length(
        self, embedder: TextEmbedder
    ) -> None:
        vectors = embedder.embed(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert vectors.dtype == np.float16
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1, rtol=0, atol=2e-3)

    def test_no_texts_have_no_rows(self, embedder: TextEmbedder) -> None:
        assert embedder.embed([]).shape == (0, embedder.dim)

    def test_a_text_has_its_vector_whatever_its_neighbours(
        self, embedder: TextEmbedder
    ) -> None:
        together = embedder.embed(TEXTS).astype(np.float32)
        alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
        np.testing.assert_allclose(alone.astype(np.float32), together, rtol=0, atol=2e-3)

    def test_vectors_have_the_same_bits_whatever_the_threads(
        self, embedder: TextEmbedder
    ) -> None:
        texts = TEXTS * 9
        expected = with_threads(1, partial(embedder.embed, texts))
        for threads in (2, 3):
            found = with_threads(threads, partial(self.make().embed, texts))
            np.testing.assert_array_equal(found, expected)

    def test_a_copy_sent_to_another_process_gives_the_same(
        self, embedder: TextEmbedder
    ) -> None:
        expected = embedder.embed(TEXTS[:2])
        data = pickle.dumps(embedder)
        assert len(data) < 2_000  # settings travel, not weights
        copy = pickle.loads(data)
        assert copy.fingerprint() == embedder.fingerprint()
        np.testing.assert_array_equal(copy.embed(TEXTS[:2]), expected)

    def test_the_encoder_is_json_with_what_must_be_known(
        self, embedder: TextEmbedder
    ) -> None:
        encoder = embedder.encoder()
        assert json.loads(json.dumps(encoder)) == encoder
        assert encoder["dim"] == embedder.dim
        assert isinstance(encoder["pairs_with"], list)
        assert {"model", "weights_sha256"} <= encoder.keys()

    def test_the_encoder_is_the_same_before_and_after_it_embeds(
        self, embedder: TextEmbedder
    ) -> None:
        before = embedder.encoder()
        embedder.embed(TEXTS[:1])
        later = self.make()
        later.embed(TEXTS[:1])
        assert before == embedder.encoder() == later.encoder()
