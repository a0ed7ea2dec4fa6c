"""CLIP's tokens for captions, as the prior of DALL-E 2 takes them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from curation.errors import InputError

if TYPE_CHECKING:
    import torch

CONTEXT_LENGTH = 77  # tokens that CLIP's text model has places for

Tokenizer = Callable[[Sequence[str]], "torch.Tensor"]
"""Captions to ``(len(captions), tokens)`` int64. It is sent to worker processes."""


class ClipTokenizer:
    """OpenAI CLIP's byte-pair tokens, by open_clip's tokenizer.

    A caption becomes ``<start>``, its tokens, ``<end>`` and zeros; one that is too long is
    cut so that ``<end>`` is its last. Same tokens as ``clip.tokenize(…, truncate=True)``.

    Source: Radford et al., arXiv:2103.00020.
    """

    def __init__(self) -> None:
        self._tokenizer: Tokenizer | None = None

    def __call__(self, captions: Sequence[str]) -> "torch.Tensor":
        """Tokenize captions.

        Returns:
            ``(len(captions), 77)`` int64.

        Raises:
            InputError: open_clip is not installed.
        """
        if self._tokenizer is None:
            self._tokenizer = _load()
        return self._tokenizer(list(captions))

    def __getstate__(self) -> dict[str, object]:
        return {"_tokenizer": None}  # its vocabulary is read again where it arrives


def _load() -> Tokenizer:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise InputError(
            "CLIP's tokenizer comes with open_clip: pip install open_clip_torch, or give "
            "your own as tokenizer=…, a function of a list of captions"
        ) from error
    tokenizer: Tokenizer = SimpleTokenizer(context_length=CONTEXT_LENGTH)
    return tokenizer
