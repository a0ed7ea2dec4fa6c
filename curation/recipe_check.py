"""What can be wrong with a recipe, found before anything runs.

Belongs here: checks that need more than one setting, or that look at files, packages and
the machine. Types and ranges of single settings belong in ``curation/recipe.py``.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from curation.classifiers import make_classifiers
from curation.dedup.duplicates import COMPUTED
from curation.dedup.preference import parse_preferences
from curation.errors import InputError, UnknownNameError, of_setting
from curation.filters import make_filter
from curation.filters.places import words_before
from curation.recipe import Recipe
from curation.recipe_tools import embedding_workers, image_embedder, text_tools
from curation.release.query import check_query
from curation.scoring import check_encoders
from curation.selection import PASSES_FILTER, available_columns
from curation.storage import open_storage

_CANARY = ".can-be-written"


def check_recipe(recipe: Recipe) -> None:
    """Check that the parts of a recipe fit each other. No file is read.

    Raises:
        UnknownNameError: The filter, a preference or a classifier names what isn't there.
        InputError: The filter, or a release's, does not fit the kinds of its columns; or
            a classifier was made for an encoder of another name; or the output is in the
            source, so that filtered shards would become raw ones; or one of them and a
            folder of images to import.
    """
    for column, classifier in make_classifiers(recipe.classifiers).items():
        classifier.check_model(recipe.encoder.model, column)
    columns = available_columns(recipe.classifiers)
    for setting, text in _expressions(recipe):
        with _told_in(recipe, setting):
            make_filter(text).check(columns)
    check_query(recipe.release, columns)
    preferable = {
        *columns,
        PASSES_FILTER,
        *(COMPUTED if recipe.duplicates.min_similarity else ()),
    }
    preferences = parse_preferences(recipe.duplicates.prefer)
    for preference in preferences:
        if preference.column not in preferable:
            name = preference.column
            raise UnknownNameError.among("column in duplicates.prefer", name, preferable)
    if recipe.duplicates.exact == "pixels" and not recipe.images.hash_pixels:
        raise InputError(
            "duplicates.exact: pixels needs images.hash_pixels: true, and what is embedded "
            "without it to be embedded again"
        )
    prefers_passing = PASSES_FILTER in {each.column for each in preferences}
    if prefers_passing and (cuts := make_filter(recipe.filter).cuts):
        raise InputError(
            f"duplicates.prefer: {PASSES_FILTER} can't be told where the filter has "
            f"{cuts[0].text}, which is found when copies are gone; prefer a column"
        )
    if _is_within(recipe.output, recipe.source):
        raise InputError(
            f"output: {recipe.output} is within the source {recipe.source}, so that what "
            "is made would be taken for raw shards; choose a folder beside it"
        )
    for name, images in recipe.imports.images.items():
        if images.list is None:
            _check_apart(recipe, f"imports.images.{name}.folder", images.folder or "")


def _expressions(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield "filter", recipe.filter
    yield "release.where", recipe.release.where
    for text in recipe.release.repeats:
        yield f"release.repeats.{text}", text


@contextmanager
def _told_in(recipe: Recipe, setting: str) -> Iterator[None]:
    """Let an error about an expression name the setting, and the recipe's line."""
    try:
        yield
    except InputError as error:
        place = recipe.written.place(setting, words_before(error))
        raise type(error)(f"{place}: {error}") from error


def _check_apart(recipe: Recipe, setting: str, folder: str) -> None:
    """Refuse a folder of images that what is made of them would be written to."""
    for place in (recipe.source, recipe.output):
        if _is_within(folder, place) or _is_within(place, folder):
            raise InputError(
                f"{setting}: {folder} and {place}, which is written to, are one in the "
                "other, so that every run would find other files; take them apart"
            )


@dataclass(frozen=True)
class Check:
    """One thing that can be known before anything is made."""

    what: str
    """What is looked at, as ``curate doctor`` calls it."""
    asset: str | None
    """Which is not made before this was looked at; None for any."""
    look: Callable[[Recipe], str | None]
    """Says what was found, if that is worth telling; raises if it is wrong."""


def check_ready(recipe: Recipe, assets: Collection[str]) -> None:
    """Check, before any work, all that some assets need and that can be known by then.

    Args:
        recipe: Whose.
        assets: What is to be made. Nothing else is looked at, so that a call with little
            to do stays quick, and what is trained later may be missing.

    Raises:
        InputError, NotFoundError, DataError: Something is wrong, and the message says
            what to write: an encoder that does not exist or has no such weights, a device
            that is not there, a classifier for another encoder, an output that can't be
            written.
        StorageError: The output, or the address of published weights, can't be reached.
    """
    for check in CHECKS:
        if check.asset is None or check.asset in assets:
            check.look(recipe)


def _check_output(recipe: Recipe) -> None:
    output = open_storage(recipe.output, recipe.s3)
    with of_setting("output"):
        output.write(_CANARY, b"")
        output.delete(_CANARY)


def _check_device(recipe: Recipe) -> str:
    return embedding_workers(recipe).check()


def _check_encoder(recipe: Recipe) -> str:
    image_embedder(recipe).check()
    return f"{recipe.encoder.model}, weights: {recipe.encoder.weights}"


def _check_text_encoder(recipe: Recipe) -> None:
    if recipe.text_encoder is not None:
        text_tools(recipe).embedder.check()


def _check_classifiers(recipe: Recipe) -> None:
    classifiers = make_classifiers(recipe.classifiers)
    if not classifiers:
        return
    for classifier in classifiers.values():
        classifier.check()
    texts = text_tools(recipe).embedder.known_encoder() if recipe.text_encoder else None
    check_encoders(classifiers, image_embedder(recipe).known_encoder(), texts)


CHECKS = (
    Check("recipe", None, check_recipe),
    Check("output", None, _check_output),
    Check("device", "embeddings", _check_device),
    Check("encoder", "embeddings", _check_encoder),
    Check("text encoder", "caption_embeddings", _check_text_encoder),
    Check("classifiers", "scores", _check_classifiers),
)
"""All that can be wrong with a recipe and the machine, cheapest first. Who runs the recipe
looks at what it is about to make, the doctor at everything."""


def _is_within(inner: str, outer: str) -> bool:
    if urlsplit(inner).scheme != urlsplit(outer).scheme:
        return False
    return PurePosixPath(inner.rstrip("/")).is_relative_to(outer.rstrip("/"))
