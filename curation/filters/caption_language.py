"""The language of a caption, told by py3langid, an optional package."""

import importlib.metadata
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from curation.errors import InputError
from curation.filters.base import Function, ReadyMade

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

PACKAGE = "py3langid"


def detect_language(caption: "pl.Expr") -> "pl.Expr":
    """Give the ISO 639-1 code of the language that each text is most likely in.

    A text without any letter is in none, which is a missing value. Texts of some words
    are often taken for another language: the detector sees letters, not meaning. "a cat"
    is Galician to it, with a confidence of 0.09.

    Raises:
        InputError: The package is not installed.
    """
    import polars as pl

    return _classified(caption, 0, pl.String)


def detect_confidence(caption: "pl.Expr") -> "pl.Expr":
    """Give the probability of the language that :func:`detect_language` gives, 0 to 1.

    Raises:
        InputError: The package is not installed.
    """
    import polars as pl

    return _classified(caption, 1, pl.Float64)


def _classified(caption: "pl.Expr", part: int, kind: "type[pl.DataType]") -> "pl.Expr":
    import polars as pl

    classify = _classifier()

    def find(texts: pl.Series) -> pl.Series:
        found = [
            classify(text)[part] if any(map(str.isalpha, text or "")) else None
            for text in texts
        ]
        return pl.Series(found, dtype=kind)

    return caption.map_batches(find, return_dtype=kind)


@cache
def _classifier() -> "Callable[[str], tuple[str, float]]":
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise _not_installed() from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    classify: Callable[[str], tuple[str, float]] = identifier.classify
    return classify


def _version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise _not_installed() from error


def _not_installed() -> InputError:
    return InputError(
        f"The language of captions is told by the package {PACKAGE}, which is not "
        f"installed; install it (pip install {PACKAGE}), or take language() and "
        "caption_language() out of the filter"
    )


@dataclass(frozen=True)
class CaptionLanguage(ReadyMade):
    """``caption_language("en")``: the caption is most likely in that language.

    Short captions are often taken for another one: of 200 plain English ones of 1 to 8
    words, 43 were. ``caption_language("en", 0.5)`` drops only those of which another
    language has at least that probability: of short ones hardly any, right or wrong.
    Brings the functions ``language(text)``, for ``language(caption) in ["en", "de"]``, and
    ``language_confidence(text)``.
    Languages are told anew for every selection (tens of thousands of captions a second on
    one core, ``benchmarks/selection.py``); none is stored.

    Source: Lui and Baldwin, langid.py (ACL 2012), as maintained in py3langid.
    """

    name: ClassVar[str] = "caption_language"
    functions: ClassVar[dict[str, Function]] = {
        "language": Function(
            "language(text): ISO 639-1 code of its most likely language",
            ("text",),
            "text",
            detect_language,
            version=_version,
        ),
        "language_confidence": Function(
            "language_confidence(text): probability of its most likely language, 0 to 1",
            ("text",),
            "number",
            detect_confidence,
            version=_version,
        ),
    }

    code: str
    confidence: float = 0.0
    """Probability from which another language counts, 0 to 1."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z]{2,3}", self.code):
            raise InputError(
                f"caption_language takes a language code such as 'en'; found {self.code!r}"
            )
        if isinstance(self.confidence, bool | str) or not 0 <= self.confidence <= 1:
            raise InputError(
                "caption_language takes a probability from 0 to 1 from which another "
                f"language counts, such as 0.5; found {self.confidence!r}"
            )

    @property
    def rule(self) -> str:
        same = f"language(caption) == '{self.code}'"
        if not self.confidence:
            return same
        return f"{same} or language_confidence(caption) < {self.confidence!r}"
