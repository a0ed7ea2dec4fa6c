"""CLIP's tokens for captions, as the prior of DALL-E 2 takes them.

The vocabulary is read from the installed package that carries it; the package itself is
not imported, because that takes seconds in every worker process. Tokens are those of
``clip.tokenize(captions, truncate=True)``.

Source: Radford et al., arXiv:2103.00020, and github.com/openai/CLIP; byte pairs:
Sennrich et al., arXiv:1508.07909.
"""

import gzip
import html
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import InputError
from curation.fingerprint import file_sha256

if TYPE_CHECKING:
    import torch

CONTEXT_LENGTH = 77  # tokens that CLIP's text model has places for

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
VOCABULARY_PACKAGES = ("open_clip", "clip")
NUM_MERGES = 48_894  # the file has more; CLIP's vocabulary ends at 49,408 tokens

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)

WORDS_HELD = 1 << 18  # words whose tokens are remembered, in each process

Tokenizer = Callable[[Sequence[str]], "torch.Tensor"]
"""Captions to ``(len(captions), tokens)`` int64. It is sent to worker processes."""


class ClipTokenizer:
    """OpenAI CLIP's byte-pair tokens.

    A caption becomes the start token, its own, the end token, and zeros; one that is too
    long is cut so that the end token is its last.

    Raises:
        InputError: No installed package carries the vocabulary.
    """

    def __init__(self) -> None:
        import regex

        merges = _read_merges()
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        symbols = list(_byte_symbols().values())
        vocabulary = symbols + [symbol + WORD_END for symbol in symbols]
        vocabulary += ["".join(pair) for pair in merges] + [START, END]
        self._ids = {token: number for number, token in enumerate(vocabulary)}
        self._words = regex.compile(WORDS, regex.IGNORECASE)
        self._word_ids = lru_cache(WORDS_HELD)(self._encode_word)

    def __call__(self, captions: Sequence[str]) -> "torch.Tensor":
        """Tokenize captions.

        Returns:
            ``(len(captions), 77)`` int64.
        """
        import torch

        tokens = np.zeros((len(captions), CONTEXT_LENGTH), np.int64)
        for row, caption in zip(tokens, captions, strict=True):
            ids = self.encode(caption)[: CONTEXT_LENGTH - 2]
            row[0] = self._ids[START]
            row[1 : len(ids) + 1] = ids
            row[len(ids) + 1] = self._ids[END]
        return torch.from_numpy(tokens)

    def encode(self, caption: str) -> list[int]:
        """Give a caption's own tokens, all of them, without start and end."""
        found: list[int] = []
        for word in self._words.findall(_cleaned(caption)):
            found += self._word_ids(word)
        return found

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word in (START, END):
            return (self._ids[word],)
        symbols = _byte_symbols()
        parts = [symbols[byte] for byte in word.encode()]
        parts[-1] += WORD_END
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, NUM_MERGES))
            if best not in self._ranks:
                break
            parts = _merged(parts, best)
        return tuple(self._ids[part] for part in parts)

    def __reduce__(self) -> tuple[type["ClipTokenizer"], tuple[()]]:
        return ClipTokenizer, ()  # the vocabulary is read again where it arrives


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair, from the left."""
    joined: list[str] = []
    place = 0
    while place < len(parts):
        if tuple(parts[place : place + 2]) == pair:
            joined.append(pair[0] + pair[1])
            place += 2
        else:
            joined.append(parts[place])
            place += 1
    return joined


def _cleaned(caption: str) -> str:
    if not (caption.isascii() and caption.isprintable()) or "&" in caption:
        import ftfy

        # twice, because captions of the web are often escaped twice
        caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return " ".join(caption.split()).lower()


@lru_cache(maxsize=1)
def _byte_symbols() -> dict[int, str]:
    """Give each byte a printable character, in the order of the vocabulary.

    Printable bytes of Latin-1 stand for themselves, the others for characters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(256 + place) for place, byte in enumerate(others)}


@lru_cache(maxsize=1)
def _read_merges() -> tuple[tuple[str, str], ...]:
    lines = gzip.decompress(_vocabulary_file().read_bytes()).decode().split("\n")
    pairs = (line.split() for line in lines[1 : NUM_MERGES + 1])
    return tuple((first, second) for first, second in pairs)


def _vocabulary_file() -> Path:
    for package in VOCABULARY_PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            file = Path(folder) / VOCABULARY_FILE
            if file.is_file() and file_sha256(file) == VOCABULARY_SHA256:
                return file
    raise InputError(
        "CLIP's vocabulary comes with open_clip: pip install open_clip_torch, or give "
        "your own tokenizer=…, a function from a list of captions to their tokens"
    )
