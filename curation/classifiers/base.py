"""What every classifier does: vectors of unit length in, one score each out.

Write one by subclassing :class:`Classifier`: a frozen dataclass of its settings that says
which embeddings it understands and computes the scores of a block of them. Bad rows,
blocks, threads, captions' keys and storing are not your business.

Scores are computed by torch: its threads use all cores on the narrow matrices of these
heads, and it turns float16 to float32 ten times faster than NumPy, so that both LAION
heads take little more than their matrix products (``benchmarks/score.py``).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from curation.cpu_arithmetic import side_by_side
from curation.errors import InputError
from curation.fingerprint import Json, fingerprint

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 2048
"""Rows that are computed at once: 6 MB of float32 at 768 numbers, which the caches hold
while every classifier reads them."""

UNIT_TOLERANCE = 0.01
"""How far from 1 a row's length may be: float16 moves it by 0.001 at most."""


class Scorable(Protocol):
    """A dataset that a classifier can be called with."""

    def scored_by(self, classifier: "Classifier") -> Self:
        """Give the dataset with a column of scores."""
        ...


D = TypeVar("D", bound=Scorable)


@dataclass(frozen=True)
class EncoderNeed:
    """Which embeddings a classifier understands."""

    dim: int | None = None
    """Numbers per row; None for any."""
    models: tuple[str, ...] = ()
    """Names of the models that it was trained on, all giving the same vectors."""
    encoder: Mapping[str, Json] | None = None
    """The very encoder that it was trained on, where that is on record."""

    def fault(self, found: Mapping[str, Json]) -> str | None:
        """Say why an encoder's embeddings won't do, or None if they will.

        Of a recorded encoder all but the precision must be the same: in half precision
        vectors move by less than images of the same thing differ.

        Args:
            found: What the embeddings say of their encoder.
        """
        if self.models and found.get("model") not in self.models:
            return (
                f"it understands embeddings of {' or '.join(self.models)}; these are of "
                f"{found.get('model')}"
            )
        for part, value in (self.encoder or {}).items():
            if part != "precision" and found.get(part) != value:
                return (
                    f"it was trained on embeddings of {_named(self.encoder or {})}, these "
                    f"are of {_named(found)}: {part} is {found.get(part)}, not {value}"
                )
        return None


def _named(encoder: Mapping[str, Json]) -> str:
    return f"{encoder.get('model')} ({fingerprint(dict(encoder))[:8]})"


@dataclass(frozen=True, kw_only=True)
class Classifier(ABC):
    """Turns vectors into scores.

    Making one reads nothing, so that it can be sent to another process; weights are read
    at first use and kept.
    """

    name: ClassVar[str]
    """What recipes call this kind of classifier."""
    score_range: ClassVar[tuple[float, float]]
    """Where scores lie: exactly for probabilities and cosines, in practice for others."""
    higher_is_better: ClassVar[bool]
    version: ClassVar[int] = 1
    """Raised when the same settings and weights start to give other scores."""
    reads_captions: ClassVar[bool] = False
    """Whether scores are of pairs: an image's embedding and its caption's."""

    trust_encoder: bool = False
    """Score embeddings of another encoder all the same. Recorded with the scores."""

    def __reduce__(self) -> tuple[object, ...]:
        # settings travel, loaded weights don't
        return _made, (type(self), {f.name: getattr(self, f.name) for f in fields(self)})

    @property
    @abstractmethod
    def needs(self) -> EncoderNeed:
        """Which embeddings it understands."""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the models whose embeddings it understands, known without weights.

        None for any, or where only the weights' file says.
        """
        return ()

    def check(self) -> None:
        """Read what it scores with, if that is small, and find what is wrong with it.

        Raises:
            InputError, NotFoundError, DataError: Weights are absent, damaged or others.
            StorageError: They are published, and can't be fetched.
        """
        _ = self.needs
        self.fingerprint()

    @abstractmethod
    def weights_sha256(self) -> Json:
        """Hash what it was trained to be; None if it has no weights."""

    @abstractmethod
    def score_block(
        self, rows: "torch.Tensor", captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        """Compute the scores of some rows.

        Args:
            rows: ``(n, dim)`` float32 on the CPU, of unit length or zero, not to be
                changed: they may be the caller's.
            captions: The captions' embeddings, likewise, if it ``reads_captions``.

        Returns:
            ``(n,)`` float32, each depending on its own row alone.
        """

    def settings(self) -> dict[str, Json]:
        """Give the settings that decide what the scores are, without paths."""
        return {}

    def fingerprint(self) -> str:
        """Hash settings and weights: equal fingerprints give equal scores."""
        return fingerprint(self.name, self.version, self.settings(), self.weights_sha256())

    def check_model(self, model: str, column: str = "") -> None:
        """Refuse an encoder by its model's name alone, for which no weights are read.

        Raises:
            InputError: It was made for another one, and ``trust_encoder`` is not set.
        """
        need = EncoderNeed(models=self.encoders)
        self._refuse(need.fault({"model": model}), f"classifier {column or self.name}")

    def _refuse(self, fault: str | None, where: str) -> None:
        if fault is not None and not self.trust_encoder:
            raise InputError(
                f"{where}: {fault}. Embed with the encoder it was made for, or, if you "
                "know that the vectors mean the same, set trust_encoder: true"
            )

    def check_encoder(self, encoder: Mapping[str, Json], column: str = "") -> None:
        """Refuse embeddings of an encoder that the classifier was not made for.

        Args:
            encoder: What the embeddings say of their encoder.
            column: The classifier's name in the recipe, for the message.

        Raises:
            InputError: It was made for another one, and ``trust_encoder`` is not set; or
                the widths differ, which no trust can mend.
        """
        where = f"classifier {column or self.name}"
        need, dim = self.needs, encoder.get("dim")
        self._refuse(need.fault(encoder), where)
        if need.dim is not None and isinstance(dim, int) and dim != need.dim:
            raise InputError(
                f"{where}: it takes rows of {need.dim} numbers; this encoder's have {dim}"
            )

    def check_caption_encoder(
        self, images: Mapping[str, Json], texts: Mapping[str, Json], column: str = ""
    ) -> None:
        """Refuse captions' embeddings that lie in another space than the images'.

        Args:
            images: What the images' embeddings say of their encoder.
            texts: What the captions' embeddings say of theirs; ``pairs_with`` lists the
                models of images that were trained with it.
            column: The classifier's name in the recipe, for the message.

        Raises:
            InputError: The two were not trained together, and ``trust_encoder`` is not
                set; or their widths differ.
        """
        where = f"classifier {column or self.name}"
        pairs = texts.get("pairs_with")
        paired = isinstance(pairs, list) and images.get("model") in pairs
        if not paired and not self.trust_encoder:
            raise InputError(
                f"{where}: the images were embedded with {images.get('model')}, the "
                f"captions with {texts.get('model')}, which pairs with {pairs}; use two "
                "towers of one model, or, if you know that they are, trust_encoder: true"
            )
        if images.get("dim") != texts.get("dim"):
            raise InputError(
                f"{where}: images have {images.get('dim')} numbers, captions "
                f"{texts.get('dim')}"
            )

    def __call__(self, dataset: D) -> D:
        """Give a dataset with the scores of its embeddings, computed when needed."""
        return dataset.scored_by(self)

    def score(
        self, embeddings: np.ndarray, captions: np.ndarray | None = None
    ) -> np.ndarray:
        """Score embeddings.

        Args:
            embeddings: ``(N, dim)`` float16 or float32, rows of unit length.
            captions: The captions' embeddings, likewise, for the classifiers that read
                them.

        Returns:
            ``(N,)`` float32; NaN for rows that are zero or hold NaN or an infinity.

        Raises:
            InputError: The array has another shape or type, or rows of another length.
        """
        (scores,) = score_all([self], embeddings, captions)
        return scores


def _made(kind: type[Classifier], settings: Mapping[str, Any]) -> Classifier:
    return kind(**settings)


def score_all(
    classifiers: Sequence[Classifier],
    embeddings: np.ndarray,
    captions: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Score embeddings by many classifiers in one pass.

    Args:
        classifiers: Whose scores.
        embeddings: As :meth:`Classifier.score`.
        captions: As :meth:`Classifier.score`.

    Returns:
        As :meth:`Classifier.score`, for each classifier.

    Raises:
        InputError: As :meth:`Classifier.score`.
    """
    import torch

    for classifier in classifiers:
        _check_inputs(classifier, embeddings, captions)
    results = [np.empty(len(embeddings), np.float32) for _ in classifiers]

    def score(start: int) -> None:
        block = slice(start, start + BLOCK_ROWS)
        with torch.inference_mode():
            rows, usable = _checked_rows("", embeddings[block], start)
            texts = None
            if captions is not None:
                texts, with_text = _checked_rows("caption ", captions[block], start)
            for classifier, result in zip(classifiers, results, strict=True):
                scores = classifier.score_block(rows, texts)
                known = usable & with_text if classifier.reads_captions else usable
                result[block] = torch.where(known, scores, torch.nan).numpy()

    starts = range(0, len(embeddings), BLOCK_ROWS)
    for some in (starts[:1], starts[1:]):  # with the first block classifiers are loaded
        side_by_side(score, some)
    return results


def _checked_rows(
    whose: str, block: np.ndarray, start: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Give rows as float32, and which of them have a direction at all."""
    import torch

    # Arrow's memory can't be written to, and torch has no tensors that can't
    block = block if block.flags.writeable else block.copy()
    rows = torch.from_numpy(block).float()
    lengths = torch.linalg.vector_norm(rows, dim=1)
    usable = lengths.isfinite() & (lengths > 0)
    off = usable & ((lengths - 1).abs() > UNIT_TOLERANCE)
    if off.any():
        row = int(off.nonzero()[0])
        raise InputError(
            f"{whose}embeddings must be of unit length, and row {start + row} has length "
            f"{float(lengths[row]):.3g}: divide each row by its length"
        )
    return rows, usable


def _check_inputs(
    classifier: Classifier, embeddings: np.ndarray, captions: np.ndarray | None
) -> None:
    dim = classifier.needs.dim
    if embeddings.ndim != 2 or embeddings.dtype not in (np.float16, np.float32):
        raise InputError(
            f"embeddings must be (N, dim) float16 or float32; found shape "
            f"{embeddings.shape} of {embeddings.dtype}"
        )
    if dim is not None and embeddings.shape[1] != dim:
        raise InputError(
            f"classifier {classifier.name} takes rows of {dim} numbers; found "
            f"{embeddings.shape[1]}: embed with the model that it was made for"
        )
    if classifier.reads_captions and (
        captions is None or captions.shape != embeddings.shape
    ):
        found = "none" if captions is None else f"shape {captions.shape}"
        raise InputError(
            f"classifier {classifier.name} compares with the captions' embeddings, of "
            f"shape {embeddings.shape}; found {found}"
        )
