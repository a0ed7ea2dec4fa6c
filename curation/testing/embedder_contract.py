"""What every embedder must do, as tests that a member's test class inherits."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import pytest
import torch

from curation.embedders.base import Embedder
from curation.fingerprint import fingerprint
from curation.testing.torch_threads import with_threads


class EmbedderContract(ABC):
    """Subclass it as ``Test…`` and say how to make an embedder on the CPU."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """Give an embedder that has loaded nothing yet."""
        return self.make()

    @abstractmethod
    def make(self) -> Embedder:
        """Make an embedder."""

    def pixels(self, embedder: Embedder, count: int) -> torch.Tensor:
        """Make random images of the size that the embedder wants."""
        transform = embedder.transform
        shape = (count, transform.height, transform.width, 3)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def test_vectors_are_half_floats_of_unit_length(self, embedder: Embedder) -> None:
        vectors = embedder.embed(self.pixels(embedder, 3))
        assert vectors.shape == (3, embedder.dim)
        assert vectors.dtype == torch.float16
        torch.testing.assert_close(
            vectors.float().norm(dim=1), torch.ones(3), rtol=0, atol=1e-3
        )

    def test_an_image_has_its_vector_whatever_its_neighbours(
        self, embedder: Embedder
    ) -> None:
        pixels = self.pixels(embedder, 4)
        expected = embedder.embed(pixels)
        changed = pixels.clone()
        changed[1] = 0
        changed[3] = 255
        found = embedder.embed(changed)
        assert found[0].equal(expected[0])
        assert found[2].equal(expected[2])

    def test_a_vector_has_the_same_bits_whatever_the_threads_and_the_batch(
        self, embedder: Embedder
    ) -> None:
        pixels = self.pixels(embedder, 9)
        expected = with_threads(1, partial(embedder.embed, pixels))
        for threads, batch in ((2, 9), (3, 4), (2, 5), (1, 1)):
            parts = torch.split(pixels, batch)
            found = with_threads(threads, partial(_each, embedder, parts))
            assert torch.cat(found).equal(expected), (threads, batch)

    def test_different_images_have_different_vectors(self, embedder: Embedder) -> None:
        vectors = embedder.embed(self.pixels(embedder, 2))
        assert not vectors[0].equal(vectors[1])

    def test_a_copy_sent_to_another_process_gives_the_same(
        self, embedder: Embedder
    ) -> None:
        pixels = self.pixels(embedder, 2)
        expected = embedder.embed(pixels)
        copy = pickle.loads(pickle.dumps(embedder))
        assert copy.fingerprint() == embedder.fingerprint()
        assert copy.embed(pixels).equal(expected)

    def test_what_travels_is_small(self, embedder: Embedder) -> None:
        """Settings are sent to other processes, not the weights that were loaded."""
        embedder.embed(self.pixels(embedder, 1))
        assert len(pickle.dumps(embedder)) < 10_000

    def test_the_encoder_is_json_and_its_hash_the_fingerprint(
        self, embedder: Embedder
    ) -> None:
        assert fingerprint(embedder.encoder()) == embedder.fingerprint()
        assert embedder.fingerprint() == self.make().fingerprint()

    def test_the_encoder_is_the_same_before_and_after_it_embeds(
        self, embedder: Embedder
    ) -> None:
        before = embedder.encoder()
        embedder.embed(self.pixels(embedder, 1))
        later = self.make()
        later.embed(self.pixels(later, 1))
        assert before == embedder.encoder() == later.encoder()

    def test_running_out_of_memory_halves_the_batch(
        self, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pixels = self.pixels(embedder, 8)
        expected = embedder.embed(pixels)
        limited = self.make()
        compute, sizes = limited.embed_pixels, []

        def with_room_for_two(part: torch.Tensor) -> torch.Tensor:
            sizes.append(len(part))
            if len(part) > 2:
                raise torch.OutOfMemoryError
            return compute(part)

        monkeypatch.setattr(limited, "embed_pixels", with_room_for_two)
        found = limited.embed(pixels)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
        too_large = [4] if embedder.device == "cpu" else [8, 4]
        assert sizes == [*too_large, 2, 2, 2, 2]
        limited.embed(pixels)
        assert sizes[-4:] == [2, 2, 2, 2]


def _each(embedder: Embedder, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [embedder.embed(part) for part in parts]
