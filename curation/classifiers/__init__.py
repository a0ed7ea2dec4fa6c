"""Family: vectors to one score each. One file per kind of classifier."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from curation.classifiers.aesthetic import AestheticClassifier
from curation.classifiers.aesthetic_linear import AestheticLinearClassifier
from curation.classifiers.base import Classifier, EncoderNeed
from curation.classifiers.linear_probe import LinearProbe
from curation.classifiers.nsfw import NsfwClassifier
from curation.classifiers.text_alignment import TextAlignment
from curation.classifiers.zero_shot import ZeroShot
from curation.errors import UnknownNameError

__all__ = [
    "CLASSIFIERS",
    "AestheticClassifier",
    "AestheticLinearClassifier",
    "Classifier",
    "EncoderNeed",
    "LinearProbe",
    "NsfwClassifier",
    "TextAlignment",
    "ZeroShot",
    "make_classifier",
    "make_classifiers",
]

CLASSIFIERS: dict[str, type[Classifier]] = {
    member.name: member
    for member in (
        AestheticClassifier,
        AestheticLinearClassifier,
        NsfwClassifier,
        LinearProbe,
        TextAlignment,
        ZeroShot,
    )
}
"""Every kind of classifier, by the name that recipes call it."""


def make_classifier(name: str, **settings: Any) -> Classifier:
    """Make the classifier of that name; nothing is read yet.

    Example:
        >>> make_classifier("linear_probe", weights="probe.safetensors").score_range
        (0.0, 1.0)

    Raises:
        UnknownNameError: There is none of that name, or it has no such setting.
        InputError: A setting is out of range.
    """
    if name not in CLASSIFIERS:
        raise UnknownNameError.among("classifier", name, CLASSIFIERS)
    kind = CLASSIFIERS[name]
    known = [field.name for field in fields(kind)]
    for setting in settings:
        if setting not in known:
            raise UnknownNameError.among(f"setting of classifier {name}", setting, known)
    return kind(**settings)


def make_classifiers(recipe: Mapping[str, Mapping[str, Any]]) -> dict[str, Classifier]:
    """Make a recipe's classifiers, by column, in its order; nothing is read yet.

    Args:
        recipe: What the recipe has under ``classifiers``: for each column the settings,
            and ``type`` where the kind of classifier is not the column's name.

    Raises:
        UnknownNameError, InputError: As :func:`make_classifier`.
    """
    return {
        column: make_classifier(
            settings.get("type", column),
            **{name: value for name, value in settings.items() if name != "type"},
        )
        for column, settings in recipe.items()
    }
