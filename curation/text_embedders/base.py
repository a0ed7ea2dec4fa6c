"""What every text embedder does: texts in, one vector of unit length per text out.

Its vectors lie in the space of the images' embeddings: the two towers of one model.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from curation.fingerprint import Json, fingerprint


class TextEmbedder(ABC):
    """Turns texts into vectors.

    Making one loads nothing, so that it can be sent to another process; what is expensive
    is loaded at first use and kept.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where the model is: ``cpu``, ``cuda`` or ``cuda:N``."""

    @abstractmethod
    def on(self, device: str) -> "TextEmbedder":
        """Make the same text embedder for another device, with nothing loaded."""

    @abstractmethod
    def encoder(self) -> dict[str, Json]:
        """Say all that decides what the vectors are, stored with every table of them.

        ``model``, ``weights_sha256``, ``dim`` …, and ``pairs_with``: the models of images,
        as embeddings tables name them, whose vectors these can be compared with.
        Batch size, device and the device's arithmetic are no part of it.
        """

    def known_encoder(self) -> dict[str, Json]:
        """Say as much of :meth:`encoder` as is known without fetching any weights."""
        return self.encoder()

    def check(self) -> None:
        """Find what is wrong with the settings or the weights, before anything is loaded.

        Raises:
            InputError, NotFoundError, DataError: The package or the model is unknown;
                weights are absent, damaged, of another model, or can't be had.
        """
        self.known_encoder()

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Compute the vectors of texts.

        Args:
            texts: Any number, each of any length; what the model can't hold is cut off.

        Returns:
            ``(N, dim)`` float16, rows of unit length.
        """

    def fingerprint(self) -> str:
        """Hash :meth:`encoder`: vectors compare only if this is equal."""
        return fingerprint(self.encoder())
