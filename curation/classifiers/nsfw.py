"""LAION's NSFW detector: how likely a picture is not safe for work."""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from curation.classifiers.base import Classifier, EncoderNeed
from curation.classifiers.laion import ClipModel, checked_head, encoder_need, read_head
from curation.errors import DataError
from curation.fingerprint import Json
from curation.published_weights import (
    PUBLISHED,
    PublishedFile,
    weights_hash,
    weights_path,
)

if TYPE_CHECKING:
    import torch

_FOLDER = (
    "https://github.com/LAION-AI/CLIP-based-NSFW-Detector/raw/"
    "d6bb8fe31fd4aecbfed7dfb62df4fe5858bfc014"
)

SOURCES: dict[str, PublishedFile] = {
    "vit_l_14": PublishedFile(
        name="clip_autokeras_binary_nsfw.zip",
        url=f"{_FOLDER}/clip_autokeras_binary_nsfw.zip",
        sha256="905520bb0336accc73ee282c605d926aef90cf14248889d44b9cee50eef71f8a",
    ),
    "vit_b_32": PublishedFile(
        name="clip_autokeras_nsfw_b32.zip",
        url=f"{_FOLDER}/clip_autokeras_nsfw_b32.zip",
        sha256="78715ab9d64485167e8c9ade3b8e6761a17a16c24d114bd47431ac1dab46462b",
    ),
}

WIDTHS: dict[str, tuple[int, ...]] = {
    "vit_l_14": (768, 64, 512, 256, 1),
    "vit_b_32": (512, 32, 32, 1),
}
"""Numbers per row before and after each layer."""

LOOKED_UP: dict[str, tuple[int, ...]] = {
    "vit_l_14": (180, 316, 413, 440, 644),
    "vit_b_32": (92, 133, 312),
}
"""Columns that AutoKeras took for categories, because among its float16 examples they had
few different values. Their vocabularies lie beside this file, made from the published
models (MIT, Copyright 2022 Christoph Schuhmann) by
``tests/data/make_nsfw_vocabularies.py``: values in millionths, in the order of their
numbers, from 1."""

VOCABULARIES = Path(__file__).with_name("nsfw_vocabularies.safetensors")

_EPSILON = 1e-7  # Keras's: what it divides by where a column never varied
_VARIABLES = "variables/variables.data-00000-of-00001"
_MAX_VARIABLES = 8 << 20  # bytes; the larger head has less than one million
_COUNT_BYTES = 8  # Keras counts the rows that it normalised, in an int64


@dataclass(frozen=True)
class NsfwClassifier(Classifier):
    """The probability that a picture is not safe for work, 0 to 1.

    Keras's normalisation, layers with ReLU between them, a sigmoid. The normalisation is
    folded into the first layer. LAION calls pictures unsafe from 0.5 up.

    The original has one more step, which its ports to PyTorch leave out: five columns (of
    ViT-B/32 three) are written with six decimals and looked up in vocabularies of the
    values that its float16 examples had; the network sees the number of the value, or 0.
    Without that step scores of float32 rows differ from the original's by up to 0.07, and
    float16 rows, where nearly every value is found, more often. Here it is done, unless the
    weights are of a head that was normalised without it.

    The published files are Keras's, as a zip; they are read without TensorFlow. The same
    weights as safetensors or ``.pth``, with the names ``norm.mean``, ``norm.variance``,
    ``linear_1.weight`` …, are read too.

    Source: LAION-AI/CLIP-based-NSFW-Detector, README.md.
    """

    name: ClassVar[str] = "nsfw"
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = False

    weights: str = PUBLISHED
    """``published``, or a file: Keras's ``.zip``, ``.safetensors`` or ``.pth``."""
    model: ClipModel = "vit_l_14"
    """Which CLIP model the embeddings are of."""

    @property
    def needs(self) -> EncoderNeed:
        return encoder_need(self.model)

    @property
    def encoders(self) -> tuple[str, ...]:
        return self.needs.models

    def check(self) -> None:
        super().check()
        _ = self._head

    def settings(self) -> dict[str, Json]:
        return {"model": self.model}

    def weights_sha256(self) -> Json:
        return weights_hash(self.weights, self._source)

    def score_block(
        self, rows: "torch.Tensor", _captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        import torch

        (matrix, offset), *hidden, (weight, bias) = self._layers
        layer = torch.addmm(offset, rows, matrix)
        for column, vocabulary in self._vocabularies.items():
            numbers = vocabulary.numbers(rows[:, column])
            layer.addr_(numbers, vocabulary.weights)
        layer.relu_()
        for matrix, offset in hidden:
            layer = torch.addmm(offset, layer, matrix).relu_()
        return torch.addmm(bias, layer, weight).sigmoid_().squeeze(1)

    @property
    def _source(self) -> PublishedFile:
        encoder_need(self.model)
        return SOURCES[self.model]

    @cached_property
    def _head(self) -> dict[str, np.ndarray]:
        """The tensors, with the normalisation folded into the first layer."""
        file = weights_path(self.weights, self._source)
        shapes = head_shapes(self.model)
        head = (_read_keras if file.suffix == ".zip" else read_head)(file, shapes)
        deviation = np.maximum(np.sqrt(head["norm.variance"]), _EPSILON)
        weight = head["linear_1.weight"] / deviation
        bias = head["linear_1.bias"] - weight @ head["norm.mean"]
        return head | {"linear_1.weight": weight, "linear_1.bias": bias}

    @cached_property
    def _layers(self) -> "list[tuple[torch.Tensor, torch.Tensor]]":
        import torch

        layers = []
        for layer in range(1, len(WIDTHS[self.model])):
            matrix = self._head[f"linear_{layer}.weight"].T.copy()
            if layer == 1:
                matrix[list(self._vocabularies)] = 0  # what they add is added apart
            bias = self._head[f"linear_{layer}.bias"]
            layers.append(
                (torch.from_numpy(matrix).float(), torch.from_numpy(bias).float())
            )
        return layers

    @cached_property
    def _vocabularies(self) -> "dict[int, _Vocabulary]":
        """Those of the looked-up columns; none if the head was trained without."""
        from safetensors.numpy import load_file

        # a column of unit vectors can't vary by more than 1; numbers of categories do
        wide = tuple(np.flatnonzero(self._head["norm.variance"] > 1).tolist())
        if not wide:
            return {}
        if wide != LOOKED_UP[self.model]:
            raise DataError(
                f"{self.weights}: columns {wide} are normalised as no columns of unit "
                f"vectors can be; the published head has {LOOKED_UP[self.model]}"
            )
        published = load_file(VOCABULARIES)
        weights = self._head["linear_1.weight"]
        return {
            column: _Vocabulary.of(published[f"{self.model}.{column}"], weights[:, column])
            for column in wide
        }


@dataclass(frozen=True)
class _Vocabulary:
    """The values of one column that have numbers, sorted."""

    values: "torch.Tensor"
    """``(n,)`` float64, millionths."""
    order: "torch.Tensor"
    """``(n,)`` float32, each value's number, from 1."""
    weights: "torch.Tensor"
    """``(width,)`` float32, of the first layer."""

    @classmethod
    def of(cls, millionths: np.ndarray, weights: np.ndarray) -> "_Vocabulary":
        import torch

        values, order = torch.from_numpy(millionths).double().sort()
        return cls(values, (order + 1).float(), torch.from_numpy(weights).float())

    def numbers(self, column: "torch.Tensor") -> "torch.Tensor":
        """Look the values of ``(n,)`` rows up; 0 for those that have no number."""
        import torch

        wanted = column.double().mul_(1e6).round_()  # as "%f" rounds, ties to even
        places = torch.searchsorted(self.values, wanted).clamp_(max=len(self.values) - 1)
        return torch.where(self.values[places] == wanted, self.order[places], 0)


def head_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Give the names and shapes of a head's tensors."""
    widths = WIDTHS[model]
    shapes: dict[str, tuple[int, ...]] = {
        "norm.mean": (widths[0],),
        "norm.variance": (widths[0],),
    }
    for layer, (wide, narrow) in enumerate(pairwise(widths), start=1):
        shapes[f"linear_{layer}.weight"] = (narrow, wide)
        shapes[f"linear_{layer}.bias"] = (narrow,)
    return shapes


def _read_keras(file: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read a head from the variables of Keras's SavedModel.

    They lie one after another as float32: mean, variance, the count of rows, then each
    layer's matrix, inputs first, and its bias. What follows is of the optimiser.
    """
    data = _variables(file)
    needed = 4 * sum(int(np.prod(shape)) for shape in shapes.values()) + _COUNT_BYTES
    if len(data) < needed:
        raise DataError(
            f"{file}: expected {needed:,} bytes of variables of the model; found "
            f"{len(data):,}: name the zip that LAION published for it"
        )
    head: dict[str, np.ndarray] = {}
    start = 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        values = np.frombuffer(data, "<f4", count, start).astype(np.float64)
        head[name] = values.reshape(shape[::-1]).T
        start += 4 * count + (_COUNT_BYTES if name == "norm.variance" else 0)
    return checked_head(head, shapes, file)


def _variables(file: Path) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(_VARIABLES) and entry.file_size < _MAX_VARIABLES:
                    return archive.read(entry)
    except zipfile.BadZipFile as error:
        raise DataError(f"{file}: no zip that can be read: {error}") from error
    raise DataError(f"{file}: expected Keras's {_VARIABLES}, and the zip has none")
