"""Training a linear probe on the embeddings that a recipe has made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.embedding import embed_samples
from curation.errors import InputError, NotFoundError
from curation.fingerprint import Json
from curation.probe_training import (
    Examples,
    Labels,
    Probe,
    ProbeSettings,
    find_examples,
    train_probe,
)
from curation.recipe import Recipe
from curation.recipe_tools import make_tools
from curation.samples import Component, Sample
from curation.storage import LocalStorage, open_storage
from curation.tables import EMBEDDING, EMBEDDINGS, read_table, table_about
from curation_assets.lineage import Lineage

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class LabelledEmbeddings:
    """What people said of some samples, with the vectors of those."""

    examples: Examples
    encoder: dict[str, Json]
    """Which made the vectors."""


def find_labelled(recipe: Recipe, labels: Labels) -> LabelledEmbeddings:
    """Read the embeddings of labelled samples.

    Raises:
        InputError: A shard has no embeddings yet, or has no sample of a labelled key; the
            shards were embedded by different encoders; or nothing is labelled.
    """
    output = open_storage(recipe.output, recipe.s3)
    path = Lineage(recipe).artifacts.embeddings
    tables: dict[str, pa.Table] = {}
    for shard in labels:
        try:
            columns = ["key", "error", EMBEDDING]
            tables[shard] = read_table(output, path(shard), EMBEDDINGS, columns)
        except NotFoundError as error:
            raise InputError(
                f"labels name shard {shard!r}, which has no embeddings under "
                f"{output.url}/{path(shard)}; run `curate run --until embeddings` first"
            ) from error
    encoders = [table_about(table)["encoder"] for table in tables.values()]
    if not encoders:
        raise InputError("there are no labels; a probe needs some of either kind")
    if any(encoder != encoders[0] for encoder in encoders):
        raise InputError(
            "the labelled shards were embedded by different encoders; run `curate run "
            "--until embeddings`, which embeds all of them by the recipe's"
        )
    return LabelledEmbeddings(find_examples(tables, labels), encoders[0])


def train(labelled: LabelledEmbeddings, settings: ProbeSettings | None = None) -> Probe:
    """Train a probe.

    Raises:
        InputError: There are too few labels of a kind.
    """
    return train_probe(labelled.examples, labelled.encoder, settings)


def find_in_folders(recipe: Recipe, positive: Path, negative: Path) -> LabelledEmbeddings:
    """Embed two folders of images by the recipe's encoder: with the label, and without.

    Images that can't be decoded are left out, and counted.

    Raises:
        InputError: A folder has no images of the recipe's extensions.
    """
    loader, embedder = make_tools(recipe)
    tables, labels = {}, {}
    for name, folder in (("positive", positive), ("negative", negative)):
        samples = list(_images(folder, recipe.images.extensions))
        if not samples:
            raise InputError(
                f"{folder}: there are no images here; expected files that end in "
                f"{', '.join(recipe.images.extensions)}"
            )
        tables[name] = embed_samples(samples, loader, embedder, recipe.images)
        labels[name] = {sample.key: name == "positive" for sample in samples}
    return LabelledEmbeddings(find_examples(tables, labels), embedder.encoder())


def _images(folder: Path, extensions: Sequence[str]) -> Iterator[Sample]:
    storage = LocalStorage(folder)
    for file in storage.list_files():
        key, _, extension = file.path.rpartition(".")
        if key and extension.lower() in extensions:
            whole = Component(extension, 0, file.size)
            yield Sample(file.path, (whole,), {extension: storage.read(file.path)})


def balanced_accuracy(scores: "np.ndarray", labels: Sequence[bool]) -> float:
    """Give the mean of the shares that are right among either kind, at 0.5."""
    import numpy as np

    truth = np.asarray(labels)
    right = (scores >= 0.5) == truth
    return float((right[truth].mean() + right[~truth].mean()) / 2)
