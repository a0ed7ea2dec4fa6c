"""The language of a caption, told by py3langid, an optional package."""

import importlib.metadata
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from curation.errors import InputError
from curation.filters.base import Function, ReadyMade

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

PACKAGE = "py3langid"


def detect_language(caption: "pl.Expr") -> "pl.Expr":
    """Give the ISO 639-1 code of the language that each text is most likely in.

    A text without any letter is in none, which is a missing value. Texts of one or two
    words are often taken for another language: the detector sees letters, not meaning.

    Raises:
        InputError: The package is not installed.
    """
    import polars as pl

    classify = _classifier()

    def codes(texts: pl.Series) -> pl.Series:
        found = [
            classify(text)[0] if any(map(str.isalpha, text or "")) else None
            for text in texts
        ]
        return pl.Series(found, dtype=pl.String)

    return caption.map_batches(codes, return_dtype=pl.String)


def _classifier() -> "Callable[[str], tuple[str, float]]":
    try:
        import py3langid
    except ImportError as error:
        raise _not_installed() from error
    classify: Callable[[str], tuple[str, float]] = py3langid.classify
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

    Brings the function ``language(text)``, for ``language(caption) in ["en", "de"]``.
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
        )
    }

    code: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z]{2,3}", self.code):
            raise InputError(
                f"caption_language takes a language code such as 'en'; found {self.code!r}"
            )

    @property
    def rule(self) -> str:
        return f"language(caption) == '{self.code}'"
