"""What each asset is made from: its inputs, its version, its slice of the recipe.

From these few lines follow the code versions that Dagster compares, the fingerprint that
an artifact must have, and hence what is stale. A step's version is raised when its code
starts to make something else of the same inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from curation.artifacts import Artifacts
from curation.classifiers import Classifier, make_classifiers
from curation.dedup.preference import parse_preferences
from curation.errors import DataError, InputError, NotFoundError
from curation.filters import make_filter
from curation.fingerprint import Json, file_sha256, fingerprint
from curation.model_weights import weights_file
from curation.public_urls import values_without_secrets
from curation.recipe import ImageInput, Recipe, TextSettings, UrlInput
from curation.selection import PASSES_FILTER
from curation.storage import StoredFile

VERSIONS = {
    "imported_images": 1,
    "imported_urls": 1,
    "raw_shard": 1,
    "shard_index": 1,
    "embeddings": 2,  # perceptual hashes
    "caption_embeddings": 1,
    "scores": 1,
    "duplicate_groups": 1,
    "duplicates": 1,
    "filter_cuts": 1,
    "selection": 1,
    "filtered_shard": 1,
}
"""Every asset, after those that it is made from. A recipe may lack some."""

IMPORT_ASSETS = ("imported_images", "imported_urls")
"""Made for each input that the recipe names, before there are shards."""
IMAGE_ASSETS = ("raw_shard", "shard_index", "embeddings", "caption_embeddings", "scores")
"""Made for each shard on its own."""
GLOBAL_ASSETS = ("duplicate_groups", "filter_cuts")
"""Made of all shards at once."""
DECISION_ASSETS = ("duplicates", "selection", "filtered_shard")
"""Made for each shard after all of them were looked at."""

_INPUTS: dict[str, tuple[str, ...]] = {
    "shard_index": ("raw_shard",),
    "embeddings": ("shard_index",),
    "scores": ("embeddings",),
    "duplicate_groups": ("embeddings",),
    "caption_embeddings": ("embeddings",),
    # through the groups alone, which have no partitions, a backfill of some shards that
    # is launched in the UI would not find its way to them
    "duplicates": ("embeddings", "duplicate_groups"),
    "filter_cuts": ("embeddings", "scores", "duplicates"),
    "selection": ("scores", "duplicates"),
    "filtered_shard": ("shard_index", "scores", "selection"),
}

_ALSO_READ: dict[str, tuple[str, ...]] = {
    "selection": ("embeddings",),
    "filtered_shard": ("embeddings",),
}
"""What a step reads beside its inputs, which are made of it too."""

_SETTINGS: dict[str, Callable[[Recipe], Json]] = {
    "shard_index": lambda recipe: recipe.on_damage,
    "embeddings": lambda recipe: {
        "encoder": _encoder_identity(recipe),
        "images": _images_rule(recipe),
        **_texts_rule(recipe),
    },
    "scores": lambda recipe: {
        column: _classifier_identity(classifier)
        for column, classifier in make_classifiers(recipe.classifiers).items()
    },
    "caption_embeddings": lambda recipe: _text_encoder_identity(recipe),
    "duplicate_groups": lambda recipe: _groups_rule(recipe),
    "filter_cuts": lambda recipe: make_filter(recipe.filter).fingerprint(),
    "selection": lambda recipe: make_filter(recipe.filter).fingerprint(),
    "filtered_shard": lambda recipe: recipe.filtered.model_dump(mode="json"),
}


_SECTIONS: dict[str, tuple[str, ...]] = {
    "shard_index": ("on_damage",),
    "embeddings": ("encoder", "images", "texts"),
    "caption_embeddings": ("text_encoder",),
    "scores": ("classifiers",),
    "duplicate_groups": ("duplicates",),
    "filter_cuts": ("filter",),
    "selection": ("filter",),
    "filtered_shard": ("filtered",),
}
"""Of the recipe, what each asset's settings come from."""


@dataclass(frozen=True)
class Lineage:
    """The versions of every asset under one recipe, as its files are when first asked."""

    recipe: Recipe

    def inputs(self, asset: str) -> tuple[str, ...]:
        """Name the assets that an asset is made from."""
        return self._all_inputs.get(asset, ())

    def reads(self, asset: str) -> tuple[str, ...]:
        """Name the assets whose files the step that makes an asset reads."""
        return (*self.inputs(asset), *_ALSO_READ.get(asset, ()))

    @cached_property
    def _all_inputs(self) -> dict[str, tuple[str, ...]]:
        return {asset: self._find_inputs(asset) for asset in VERSIONS}

    def _find_inputs(self, asset: str) -> tuple[str, ...]:
        if asset == "raw_shard":
            return self.imports
        inputs = _INPUTS.get(asset, ())
        if asset == "duplicate_groups" and self._prefers_by_score():
            inputs += ("scores",)
        if asset == "scores" and "caption_embeddings" in self.assets:
            inputs += ("caption_embeddings",)
        if asset == "selection" and "filter_cuts" in self.assets:
            inputs += ("filter_cuts",)
        return inputs

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Name the assets that bring this recipe's raw shards; most recipes have none."""
        return tuple(asset for asset in IMPORT_ASSETS if self.import_inputs(asset))

    def import_inputs(self, asset: str) -> Mapping[str, ImageInput | UrlInput]:
        """Give what one of those imports from, by name."""
        imports = self.recipe.imports
        return imports.images if asset == "imported_images" else imports.urls

    @cached_property
    def assets(self) -> tuple[str, ...]:
        """Name the assets of this recipe's shards, each after those it is made from."""
        lacking = {*IMPORT_ASSETS}
        if self.recipe.text_encoder is None:
            lacking.add("caption_embeddings")
        if not make_filter(self.recipe.filter).cuts:
            lacking.add("filter_cuts")
        return tuple(asset for asset in VERSIONS if asset not in lacking)

    def settings(self, asset: str) -> Json:
        """Give the slice of the recipe that the asset's content depends on."""
        return _SETTINGS[asset](self.recipe) if asset in _SETTINGS else None

    def recipe_settings(self, asset: str) -> dict[str, Json]:
        """Give what the recipe says of an asset, in the recipe's own words.

        URLs are without secrets: this goes on record.
        """
        sections = _SECTIONS.get(asset, ())
        if asset == "duplicate_groups" and prefers_passing(self.recipe):
            sections += ("filter",)
        written = self.recipe.model_dump(mode="json", include={*sections})
        return dict(values_without_secrets(written))

    def code_version(self, asset: str) -> str:
        """Give Dagster's code version: the step's version and its settings' hash."""
        return self._code_versions[asset]

    @cached_property
    def _code_versions(self) -> dict[str, str]:
        # found once: a plan asks for them for every shard
        return {
            asset: f"{version}-{fingerprint(self.settings(asset))[:12]}"
            for asset, version in VERSIONS.items()
        }

    @property
    def recipe_version(self) -> str:
        """Hash all that decides what is made, of what, and where."""
        versions: dict[str, Json] = {a: self.code_version(a) for a in self.assets}
        if self.imports:
            versions["imports"] = self.recipe.imports.model_dump(mode="json")
        recipe = self.recipe
        return fingerprint(recipe.name, recipe.source, recipe.output, versions)[:12]

    def expected(
        self, asset: str, inputs: Mapping[str, str], code_version: str | None = None
    ) -> str:
        """Give the fingerprint of the asset when made of ``inputs``.

        Args:
            asset: Its name.
            inputs: The data version of each of its inputs, by name.
            code_version: What made it; by default what makes it now.
        """
        known: Json = {name: inputs[name] for name in self.inputs(asset)}
        return fingerprint(asset, code_version or self.code_version(asset), known)

    def made_of_tar(self, tar: StoredFile) -> dict[str, str]:
        """Give the data versions of all that is made of one raw shard on its own."""
        versions = {"raw_shard": raw_version(tar)}
        for asset in IMAGE_ASSETS[1:]:
            if asset in self.assets:
                inputs = {name: versions[name] for name in self.inputs(asset)}
                versions[asset] = self.expected(asset, inputs)
        return versions

    @property
    def groups_version(self) -> str:
        """Data version of ``duplicate_groups``: of its rule, whichever shards there are."""
        return fingerprint("duplicate_groups", self.code_version("duplicate_groups"))

    @cached_property
    def artifacts(self) -> Artifacts:
        """Where this recipe's artifacts lie."""
        salvaged = self.recipe.on_damage == "salvage"
        embedded = [self.settings("embeddings"), *(["salvage"] if salvaged else [])]
        captions = self.settings("caption_embeddings")
        model = self.recipe.encoder.model.replace("/", "-")
        return Artifacts(
            indexes="index-salvage" if salvaged else "index",
            encoder=f"{model}-{fingerprint(*embedded)[:8]}",
            captions=fingerprint(captions)[:8],
            classifiers=fingerprint(self.settings("scores"), captions)[:8],
            recipe=self.recipe.name,
        )

    def _prefers_by_score(self) -> bool:
        made_later = {*self.recipe.classifiers, PASSES_FILTER}
        return not made_later.isdisjoint(_preferred(self.recipe))


def prefers_passing(recipe: Recipe) -> bool:
    """Tell whether of a group of copies one is preferred that the filter keeps."""
    return PASSES_FILTER in _preferred(recipe)


def _groups_rule(recipe: Recipe) -> Json:
    rule: dict[str, Json] = recipe.duplicates.model_dump(mode="json")
    if prefers_passing(recipe):
        rule[PASSES_FILTER] = make_filter(recipe.filter).fingerprint()
    return rule


def _preferred(recipe: Recipe) -> set[str]:
    return {order.column for order in parse_preferences(recipe.duplicates.prefer)}


def _encoder_identity(recipe: Recipe) -> Json:
    """Give the encoder's settings, with the content of its weights in place of a path."""
    identity: dict[str, Json] = recipe.encoder.model_dump(mode="json")
    try:
        file = weights_file(recipe.encoder.weights)
    except (InputError, NotFoundError):
        return identity  # what embeds says so; that a graph can be drawn needs no weights
    return identity | ({"weights": file_sha256(file)} if file else {})


def _images_rule(recipe: Recipe) -> Json:
    """Give the settings of images; a default that was no setting once is none here."""
    settings: dict[str, Json] = recipe.images.model_dump(mode="json")
    if settings["on_corruption"] == "quarantine":
        del settings["on_corruption"]  # else each embedding of before would be made again
    return settings


def _texts_rule(recipe: Recipe) -> dict[str, Json]:
    """Give the settings of texts; those that were none once are none here."""
    if recipe.texts == TextSettings():
        return {}  # else each embedding of before would be made again
    return {"texts": recipe.texts.model_dump(mode="json")}


def _text_encoder_identity(recipe: Recipe) -> Json:
    if recipe.text_encoder is None:
        return None
    identity: dict[str, Json] = recipe.text_encoder.model_dump(mode="json")
    file = Path(recipe.text_encoder.weights)
    return identity | ({"weights": file_sha256(file)} if file.is_file() else {})


def _classifier_identity(classifier: Classifier) -> str:
    try:
        return classifier.fingerprint()
    except (InputError, NotFoundError, DataError):
        return "its weights are not there yet"


def raw_version(tar: StoredFile) -> str:
    """Give the data version of a raw shard: its size and its ETag or time of change."""
    return fingerprint("raw_shard", tar.size, tar.version)
