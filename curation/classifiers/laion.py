"""What the heads that LAION published have in common: their encoders and their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from curation.classifiers.base import EncoderNeed
from curation.errors import DataError, UnknownNameError
from curation.model_weights import read_weights

ClipModel = Literal["vit_l_14", "vit_b_32"]
"""LAION's names of the two OpenAI CLIP models that heads were trained on."""

ENCODERS: dict[str, EncoderNeed] = {
    "vit_l_14": EncoderNeed(
        dim=768, models=("vit_large_patch14_clip_quickgelu_224.openai", "ViT-L/14")
    ),
    "vit_b_32": EncoderNeed(
        dim=512, models=("vit_base_patch32_clip_quickgelu_224.openai", "ViT-B/32")
    ),
}
"""timm's names and OpenAI's own. OpenAI trained with QuickGELU: timm's models without it in
the name give other vectors from the same weights, which move aesthetic scores by 0.6."""


def encoder_need(model: str) -> EncoderNeed:
    """Give which embeddings heads for a CLIP model understand.

    Raises:
        UnknownNameError: LAION published no heads for it.
    """
    if model not in ENCODERS:
        raise UnknownNameError.among("CLIP model with published heads", model, ENCODERS)
    return ENCODERS[model]


def read_head(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read the tensors of a head as float64, from safetensors or a ``.pth`` of tensors.

    Raises:
        DataError: The file can't be read, or holds another head.
    """
    head = {name: tensor.double().numpy() for name, tensor in read_weights(file).items()}
    return checked_head(head, shapes, file)


def checked_head(
    head: dict[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], file: Path
) -> dict[str, np.ndarray]:
    """Return the tensors if they are those of a head with these shapes.

    Raises:
        DataError: A tensor is missing, of another shape, or holds NaN or an infinity.
    """
    for name, shape in shapes.items():
        if name not in head or head[name].shape != shape:
            found = {name: array.shape for name, array in head.items()}
            raise DataError(
                f"{file}: expected {name} of shape {shape}; found {found}; name a file "
                "of the weights that this classifier has, for this CLIP model"
            )
        if not np.isfinite(head[name]).all():
            raise DataError(f"{file}: {name} holds NaN or an infinity: a damaged file")
    return head
