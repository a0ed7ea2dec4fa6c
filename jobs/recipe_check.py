"""What can be wrong with a recipe, found before anything runs.

Belongs here: checks that need more than one setting, or that look at files. Types and
ranges of single settings belong in ``curation/recipe.py``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from curation.classifiers import make_classifiers
from curation.dedup.duplicates import COMPUTED
from curation.dedup.preference import parse_preferences
from curation.errors import InputError, UnknownNameError
from curation.filters import make_filter
from curation.filters.places import words_before
from curation.model_weights import weights_file
from curation.recipe import Recipe
from curation.release.query import check_query
from curation.selection import PASSES_FILTER, available_columns
from curation.storage import open_storage
from curation_assets.lineage import prefers_passing
from jobs.crons import check_crons

_CANARY = ".can-be-written"
_SHORT_OF_FILTER = ("raw_shard", "shard_index", "embeddings")


def check_recipe(recipe: Recipe) -> None:
    """Check that the parts of a recipe fit each other. No file is read.

    Raises:
        UnknownNameError: The filter, a preference or a classifier names what isn't there.
        InputError: The filter, or a release's, does not fit the kinds of its columns; or
            the output is in the source, so that filtered shards would become raw ones; or
            one of them and a folder of images to import; or a schedule has no times.
    """
    check_crons(recipe)
    make_classifiers(recipe.classifiers)
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
    for preference in parse_preferences(recipe.duplicates.prefer):
        if preference.column not in preferable:
            name = preference.column
            raise UnknownNameError.among("column in duplicates.prefer", name, preferable)
    if recipe.duplicates.exact == "pixels" and not recipe.images.hash_pixels:
        raise InputError(
            "duplicates.exact: pixels needs images.hash_pixels: true, and what is embedded "
            "without it to be embedded again"
        )
    if prefers_passing(recipe) and (cuts := make_filter(recipe.filter).cuts):
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


def check_ready(recipe: Recipe, until: str) -> None:
    """Check that weights are there and the output can be written, before any work.

    Args:
        recipe: Already checked by :func:`check_recipe`.
        until: The last asset that is to be made.

    Raises:
        InputError, NotFoundError, DataError: Weights are not where the recipe says, or
            are none; the output can't be written.
        StorageError: The output can't be reached.
    """
    weights_file(recipe.encoder.weights)
    if until not in _SHORT_OF_FILTER:
        for classifier in make_classifiers(recipe.classifiers).values():
            classifier.fingerprint()
    output = open_storage(recipe.output, recipe.s3)
    output.write(_CANARY, b"")
    output.delete(_CANARY)


def _is_within(inner: str, outer: str) -> bool:
    if urlsplit(inner).scheme != urlsplit(outer).scheme:
        return False
    return PurePosixPath(inner.rstrip("/")).is_relative_to(outer.rstrip("/"))
