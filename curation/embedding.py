"""Step: samples to the embeddings table.

One row per sample, in order, whatever its image is like: with a vector and image facts, or
with the reason why there are none (the quarantine ledger). Captions and metadata travel
along as text, so that later steps need not open the shard again.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.embedders.base import Embedder
from curation.errors import InputError, shortened
from curation.image_facts import FACTS, measure_images, pixel_sha256
from curation.image_loaders.base import EncodedImage, ImageBatch, ImageLoader
from curation.recipe import DEFAULT_TEXTS, ImageSettings, TextSettings
from curation.samples import Component, Sample, find_component
from curation.tables import EMBEDDING, EMBEDDINGS, embedding_column
from curation.task_progress import tell_part
from curation.texts import decode_text

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CORRUPTION = "corruption"
"""Why Pillow refuses an image that is kept: with ``on_corruption: keep`` alone."""
BATCHES_AHEAD = 2  # decoded while the device computes; more only takes memory


def embed_samples(
    samples: Iterable[Sample],
    loader: ImageLoader,
    embedder: Embedder,
    images: ImageSettings,
    texts: TextSettings = DEFAULT_TEXTS,
    num_samples: int | None = None,
) -> pa.Table:
    """Embed the samples of one shard.

    Decoding runs ahead of the model where the model is on a GPU. Memory is bounded by
    the batches under way, not by the shard: samples are taken from the iterator as they
    are needed and their bytes forgotten.

    Args:
        samples: In the order of the index, with the contents of the image component, and
            of caption and metadata where they are to travel along.
        loader: Made for ``embedder.transform`` and on its device.
        embedder: What to embed with.
        images: Which component is the image. Its bounds are the loader's business.
        texts: Which components are the caption and the metadata.
        num_samples: How many there are. If given, :func:`curation.task_progress.tell_part`
            is told how far they are embedded.

    Returns:
        A table of :data:`curation.tables.EMBEDDINGS`, with ``image_embedding`` last. Text
        is read as its byte order mark says (UTF-8, UTF-16 or UTF-32), without one as UTF-8;
        what is neither keeps what can be read, with U+FFFD for the rest: a caption in
        another encoding costs neither the sample nor the shard.

    Raises:
        InputError: The loader was made for another transform, or not even one image fits
            the device.
    """
    if loader.transform != embedder.transform:
        raise InputError(
            f"The image loader was made for {loader.transform}; the embedder wants "
            f"{embedder.transform}. Make it with the embedder's transform"
        )
    ledger = _Ledger(images, texts)
    batches = loader.load(ledger.images_of(samples))
    if embedder.device != "cpu":
        batches = _read_ahead(batches, BATCHES_AHEAD)
    results = _Results(embedder.dim, hash_pixels=images.hash_pixels)
    for batch in batches:
        vectors = embedder.embed(batch.pixels)
        results.add(batch, vectors, *measure_images(batch.thumbnails))
        if num_samples and batch.images:
            tell_part(batch.images[-1].row + 1, num_samples)
    return results.table(ledger)


@dataclass
class _Ledger:
    """What is known of each sample before its image is decoded, a list per column."""

    settings: ImageSettings
    texts: TextSettings
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = {column.name: [] for column in EMBEDDINGS.columns}

    def images_of(self, samples: Iterable[Sample]) -> Iterator[EncodedImage]:
        """Enter every sample; pass on the image of each that has one."""
        for row, sample in enumerate(samples):
            component = find_image(sample, self.settings)
            data = sample.contents.get(component.extension) if component else None
            self._enter(sample, component, data)
            if data is not None:
                yield EncodedImage(row, data)

    def _enter(
        self, sample: Sample, component: Component | None, data: bytes | None
    ) -> None:
        known: dict[str, Any] = {
            "key": sample.key,
            "caption": _text(sample, self.texts.caption_extensions),
            "metadata": _text(sample, self.texts.metadata_extensions),
        }
        if component is None:
            found = ", ".join(part.extension for part in sample.components) or "nothing"
            known["error"] = f"no image component: the sample has {found}"
        else:
            known |= {
                "image_extension": component.extension,
                "image_start": component.start,
                "image_bytes": component.size,
            }
        if data is not None:
            known["sha256"] = hashlib.sha256(data).hexdigest()
        elif component is not None:
            known["error"] = f"image of {component.size} bytes: too large to be read"
        for name, column in self.columns.items():
            column.append(known.get(name))


class _Results:
    """What came of each image; vectors and facts stay on the device until the end."""

    def __init__(self, dim: int, *, hash_pixels: bool) -> None:
        self.dim = dim
        self.hash_pixels = hash_pixels
        self.pixel_hashes: dict[int, str] = {}
        """Row to hash."""
        self.rows: list[tuple[int, Any]] = []
        self.slots: list[int] = []
        self.vectors: list[torch.Tensor] = []
        self.facts: list[torch.Tensor] = []
        self.hashes: list[torch.Tensor] = []
        self.num_slots = 0

    def add(
        self,
        batch: ImageBatch,
        vectors: "torch.Tensor",
        facts: "torch.Tensor",
        hashes: "torch.Tensor",
    ) -> None:
        if self.hash_pixels:
            self._hash_pixels(batch)
        self.rows += [(image.row, image) for image in batch.images]
        self.slots += range(self.num_slots, self.num_slots + len(batch.images))
        self.num_slots += len(vectors)
        self.vectors.append(vectors)
        self.facts.append(facts)
        self.hashes.append(hashes)

    def _hash_pixels(self, batch: ImageBatch) -> None:
        thumbnails = batch.thumbnails.cpu().numpy()
        for image, thumbnail in zip(batch.images, thumbnails, strict=False):  # free slots
            if image.error is None and image.width and image.height:
                found = pixel_sha256(thumbnail, image.width, image.height)
                self.pixel_hashes[image.row] = found

    def table(self, ledger: _Ledger) -> pa.Table:
        columns = ledger.columns
        num_rows = len(columns["key"])
        vectors = np.zeros((num_rows, self.dim), np.float16)
        valid = np.zeros(num_rows, bool)
        found, facts = _on_host(self.vectors), _on_host(self.facts)
        hashes = _on_host(self.hashes)
        corruption: list[str | None] = [None] * num_rows
        for (row, image), slot in zip(self.rows, self.slots, strict=True):
            columns["format"][row] = image.format
            columns["width"][row] = image.width
            columns["height"][row] = image.height
            columns["error"][row] = image.error
            corruption[row] = image.corruption
            if image.error is not None:
                continue
            for name, value in zip(FACTS, facts[slot].tolist(), strict=True):
                columns[name][row] = value
            if hashes[slot].any():
                columns["perceptual_hash"][row] = hashes[slot].tobytes()
            columns["pixel_sha256"][row] = self.pixel_hashes.get(row)
            vectors[row] = found[slot]
            valid[row] = True
        _quarantine_infinite(columns["error"], vectors, valid)
        columns["error"] = _reasons(columns["error"])
        arrays = {
            kind.name: pa.array(columns[kind.name], kind.type)
            for kind in EMBEDDINGS.columns
        }
        if ledger.settings.on_corruption == "keep":
            arrays[CORRUPTION] = pa.array(_reasons(corruption), pa.string())
        return pa.table(arrays | {EMBEDDING: embedding_column(vectors, valid)})


def find_image(sample: Sample, images: ImageSettings) -> Component | None:
    """Find a sample's image: the first of the extensions, in any case, that it has."""
    return find_component(sample.components, images.extensions)


def _text(sample: Sample, extensions: Sequence[str]) -> str | None:
    component = find_component(sample.components, extensions)
    data = sample.contents.get(component.extension) if component else None
    return None if data is None else decode_text(data)


def _quarantine_infinite(
    errors: list[str | None], vectors: np.ndarray, valid: np.ndarray
) -> None:
    """Take back vectors that a model of half precision overflowed in."""
    for row in np.flatnonzero(valid & ~np.isfinite(vectors).all(axis=1)):
        errors[row] = "the model gave no finite vector; use precision: fp32"
        valid[row] = False


def _reasons(found: list[str | None]) -> list[str | None]:
    return [None if reason is None else shortened(reason) for reason in found]


def _on_host(parts: list["torch.Tensor"]) -> np.ndarray:
    import torch

    return torch.cat(parts).cpu().numpy() if parts else np.empty((0, 0))


def _read_ahead(batches: Iterator[ImageBatch], count: int) -> Iterator[ImageBatch]:
    """Run an iterator in a thread, up to ``count`` items ahead of its reader."""
    queue: Queue[ImageBatch | BaseException | None] = Queue(count)
    stopped = False

    def fill() -> None:
        try:
            for batch in batches:
                queue.put(batch)
                if stopped:
                    return
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    thread = Thread(target=fill, name="image loader", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped = True
        while thread.is_alive():
            while not queue.empty():
                queue.get_nowait()  # a reader that gives up must not leave it waiting
            thread.join(0.01)
