"""The language of captions is told by py3langid, where it is installed."""

import builtins
import importlib.metadata
from typing import Any

import pytest

from curation.errors import InputError
from curation.filters import make_filter
from curation.filters.caption_language import CaptionLanguage, _classifier
from curation.testing.filter_contract import ReadyMadeContract

pytest.importorskip("py3langid", reason="the optional package py3langid is not installed")

CAPTIONS = {
    "en": "A dog runs along the beach while the sun goes down",
    "de": "Ein Hund läuft am Abend am Strand entlang und bellt",
    "fr": "Un chien court le long de la plage au coucher du soleil",
    "ru": "Красивая собака бежит вдоль берега моря",
}


class TestCaptionLanguage(ReadyMadeContract):
    member = CaptionLanguage

    def calls(self) -> list[str]:
        return [
            "caption_language('en')",
            "caption_language('en', 0.5)",
            "language(caption) in ['en', 'de']",
        ]

    def wrong_calls(self) -> list[str]:
        return [
            "caption_language('English')",
            "caption_language()",
            "caption_language(1)",
            "caption_language('en', 2)",
            "caption_language('en', 'sure')",
            "caption_language('en', true)",
        ]

    def kept(self) -> dict[str, object]:
        return {"caption": CAPTIONS["en"]}

    def dropped(self) -> list[dict[str, object]]:
        others = [{"caption": CAPTIONS[code]} for code in ("de", "fr", "ru")]
        return [*others, {"caption": "12345 / 678"}, {"caption": ""}, {"caption": None}]


@pytest.mark.parametrize("code", CAPTIONS)
def test_a_sentence_is_in_its_language(code: str) -> None:
    sample = {"caption": CAPTIONS[code]}
    contract = TestCaptionLanguage()
    assert contract.select(f"language(caption) == '{code}'", sample) == []


SHORT = ["a cat", "sunset", "kitchen sink", "a boat", "girl smiling", "blue door", "lion"]


@pytest.mark.parametrize("caption", SHORT)
def test_a_doubtful_language_can_be_let_pass(caption: str) -> None:
    contract, sample = TestCaptionLanguage(), {"caption": caption}
    assert contract.select("caption_language('en', 0.5)", sample) == []


@pytest.mark.parametrize("code", ["de", "fr", "ru"])
def test_a_certain_language_is_dropped_whatever_the_bound(code: str) -> None:
    contract, sample = TestCaptionLanguage(), {"caption": CAPTIONS[code]}
    assert contract.select("caption_language('en', 0.5)", sample)
    assert contract.select("language_confidence(caption) >= 0.5", sample) == []


def test_short_captions_are_taken_for_other_languages() -> None:
    contract = TestCaptionLanguage()
    dropped = [
        s for s in SHORT if contract.select("caption_language('en')", {"caption": s})
    ]
    assert dropped  # which is why there is a bound, and why the README says so


def test_the_fingerprint_has_the_packages_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_filter("caption_language('en')").fingerprint()
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "99.0")
    assert make_filter("caption_language('en')").fingerprint() != before


def test_a_missing_package_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__
    _classifier.cache_clear()

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("py3langid"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install py3langid"):
        TestCaptionLanguage().select("caption_language('en')", {"caption": "a dog"})
