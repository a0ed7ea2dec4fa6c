"""Batches for training a decoder: images with their embeddings, from WebDataset shards.

Names and calls are those of DALLE2-pytorch's ``dataloaders``, those of its README and
those of its current code. What is different is meant: every sample comes exactly once an
epoch over all ranks and worker processes, every rank has as many batches, shuffling mixes
samples and repeats by its seed, an epoch goes on where it was left, and what is missing or
damaged is an error with a name, or is counted.

The shards are indexed when the dataset is made, so that any sample can be read at once.

Source: DALLE2-pytorch, ``dalle2_pytorch/dataloaders/README.md`` and ``decoder_loader.py``.
"""

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from curation.errors import CurationError, DataError, InputError, SampleError, TableError
from curation.image_decoding import decode_to_pillow
from curation.npy import usable_rows
from curation.recipe import ImageSettings
from curation.storage import S3Settings, open_storage
from curation.texts import decode_text, load_json
from curation.training.batch_images import as_array, as_floats, stacked
from curation.training.indexed_shards import KEY, IndexedShards, index_shards
from curation.training.sample_bytes import SampleBytes
from curation.training.sample_order import SampleOrder
from curation.training.sample_vectors import (
    KeyDigits,
    SampleVectors,
    find_vectors,
    open_folder,
)
from curation.training.shard_urls import open_shards
from curation.training.shared_number import SharedNumber

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

Missing = Literal["raise", "skip", "mask"]
Handler = Callable[[Exception], bool]

CHUNK_SAMPLES = 64  # read at once where samples are given one by one

_IMAGE, _NPY = "image", "npy"


@dataclass(frozen=True)
class Loaded:
    """What became of some samples."""

    columns: tuple[Any, ...]
    """Images, embeddings, extras …: a list, an array or a dict of arrays for each."""
    samples: np.ndarray
    """``(b,)`` int64: numbers of the samples that are in it."""
    num_missing: int = 0
    """Samples without a vector: masked, or left out."""
    num_bad: int = 0
    """Samples left out because the handler let an error pass."""
    num_again: int = 0
    """Samples that stand in for a batch of which nothing was left."""


class ImageEmbeddingDataset(IterableDataset[tuple[Any, ...]]):
    """Samples of shards with their embeddings, from the first call on by number.

    Iterated, it gives sample after sample: this rank's, and inside a worker process that
    worker's, so that any ``DataLoader`` over it shows every sample once. For batches that
    are as many on every rank, resumable and shuffled, use
    :func:`create_image_embedding_dataloader`.

    A sample is ``(image, embedding, *extras)``, with ``missing="mask"`` followed by
    whether there is an embedding:

    * the image: float32 ``(3, height, width)`` RGB in [0, 1], or what ``img_preproc``
      makes of it, or bytes as stored with ``decode=None``;
    * the embedding: float32 ``(dim,)``, values as stored and not normalised; or a dict of
      such, ``{"img": …, "text": …}``, if they were asked for by those names;
    * extras: ``str`` of ``txt`` and ``__key__``, what ``json`` holds, ``int`` of ``cls``,
      else bytes; ``outputs.txt`` is a ``txt`` too.

    Args:
        urls: Tars, or a folder of them, such as a release or filtered shards:
            :func:`curation.training.shard_urls.open_shards`.
        embedding_folder_url: Folder of ``.npy`` files. Without one, the embeddings are in
            the tars (``.npy``), or beside them (``img_emb_*.npy``, or tables of filtered
            shards).
        img_embedding_folder_url: The same, but gives the dict form.
        text_embedding_folder_url: Folder of text embeddings; gives the dict form.
        index_width: How many digits at the end of a key are the row in its ``.npy``.
        shard_width: Instead: how many at the beginning are the shard. With neither, rows
            follow the order of the tar.
        img_preproc: Called with each image, as a PIL image in RGB.
        extra_keys: Further components by extension, such as ``outputs.txt``, and
            ``__key__``.
        image_extensions: Of the image; the first that a sample has. By default a recipe's.
        handler: Called with the error of a sample that can't be read or decoded; if it
            returns true, the sample is left out. By default the error is raised.
        resample: Draw shards with replacement, without end.
        shuffle_shards: Take the shards in another order in every epoch.
        missing: What to do with samples without an embedding, or with one that has a NaN
            or an infinite value: ``raise`` an error, ``skip`` them (found at the beginning,
            which reads all vectors), or ``mask`` them, with zeros for the vector.
        decode: ``pillow``, or None for bytes as stored.
        seed: Of all that is random.
        rank: Which rank this is; by default what torch.distributed or ``RANK`` says.
        world_size: How many there are; by default as ``rank``.
        s3: How to reach an S3 server.

    Raises:
        InputError: A name, a URL or a width doesn't fit; the message says which.
        ShardError: A tar is damaged or cut short; it has the offset.
        TableError: Embeddings are damaged, or not of these samples.
    """

    epoch = SharedNumber()
    """Whose order the next iteration has, in worker processes that run already too."""
    max_pixels = SharedNumber()
    """Images with more are errors, found before they are decoded."""

    def __init__(
        self,
        urls: str | Iterable[str],
        embedding_folder_url: str | None = None,
        *,
        img_embedding_folder_url: str | None = None,
        text_embedding_folder_url: str | None = None,
        index_width: int | None = None,
        shard_width: int | None = None,
        img_preproc: "Callable[[Image.Image], Any] | None" = None,
        extra_keys: Sequence[str] = (),
        image_extensions: Sequence[str] = (),
        handler: Handler | None = None,
        resample: bool = False,
        shuffle_shards: bool = True,
        missing: Missing = "raise",
        decode: Literal["pillow"] | None = "pillow",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        s3: S3Settings | None = None,
    ) -> None:
        super().__init__()
        if missing not in ("raise", "skip", "mask"):
            raise InputError(f"missing={missing!r} must be 'raise', 'skip' or 'mask'")
        if decode not in ("pillow", None):
            raise InputError(f"decode={decode!r} must be 'pillow' or None")
        if decode is None and img_preproc is not None:
            raise InputError("img_preproc needs images; decode=None gives bytes")
        if index_width is not None and shard_width is not None:
            raise InputError(
                "index_width and shard_width both say where keys are cut: give one"
            )
        self.img_preproc = img_preproc
        self.extra_keys = tuple(extra_keys)
        self.handler = handler
        self.missing: Missing = missing
        self.decode = decode
        self.max_pixels = ImageSettings().max_pixels
        self.resampling = resample
        wanted = _wanted(self.extra_keys, image_extensions)
        self.indexed = index_shards(open_shards(urls, s3), wanted)
        self.reader = SampleBytes(self.indexed)
        digits = KeyDigits(index_width, shard_width)
        folders = {"img": img_embedding_folder_url, "text": text_embedding_folder_url}
        self.vectors = self._open_vectors(embedding_folder_url, folders, digits, s3)
        self.samples = self._usable()
        self.order = SampleOrder(
            self._counts(),
            batch_size=1,
            seed=seed,
            shuffle_shards=shuffle_shards,
            resample=resample,
            **_place_among_ranks(rank, world_size),
        )
        self.epoch = 0

    @property
    def num_skipped(self) -> int:
        """Samples that are never given, because they have no embedding."""
        return self.indexed.num_samples - len(self.samples)

    @property
    def random_access(self) -> bool:
        """Whether any sample can be read as soon as any other."""
        return self.indexed.is_local and all(
            vectors.random_access for vectors in self.vectors.values()
        )

    def __len__(self) -> int:
        """Count the samples of an epoch on this rank.

        Raises:
            TypeError: There is no end, because shards are resampled.
        """
        if self.resampling:
            raise TypeError("resampled shards have no end, and so no len()")
        rank, world_size = self.order.rank, self.order.world_size
        num_samples = len(self.samples)
        return (rank + 1) * num_samples // world_size - rank * num_samples // world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iterations.

        Worker processes that stay from epoch to epoch (``persistent_workers=True``) see it.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for samples in self._chunks():
            images, *others = self.load(samples).columns
            if self.gives_pixels:
                images = map(_as_tensor, images)
            yield from zip(images, *map(_one_by_one, others), strict=True)

    @property
    def gives_pixels(self) -> bool:
        """Whether images are pixels, not bytes nor what ``img_preproc`` made of them."""
        return self.decode is not None and self.img_preproc is None

    def load(self, samples: np.ndarray) -> Loaded:
        """Read and decode samples.

        Args:
            samples: ``(n,)`` numbers: places in :attr:`samples`.

        Returns:
            Images and extras are lists, all else is arrays. Images that
            :attr:`gives_pixels` are uint8 ``(height, width, 3)``.

        Raises:
            TableError: A sample has no embedding, and ``missing`` is ``raise``.
            SampleError: One can't be decoded, and no handler lets that pass.
        """
        return self._load(samples, list)

    def load_batch(self, samples: np.ndarray, room: np.ndarray | None = None) -> Loaded:
        """Read and decode samples as :meth:`load`, and put their images together.

        Args:
            samples: As there.
            room: ``(n,)`` uint8: memory to put them in, if they fit; else it is new.

        Returns:
            No columns if no sample is left. Images that are arrays or tensors are one
            ``(B, …)`` array; if they are pixels, uint8 ``(B, height, width, 3)``.

        Raises:
            InputError: Images differ in shape or dtype.
            TableError: As :meth:`load`.
            SampleError: As :meth:`load`.
        """
        gather = partial(stacked, most=len(samples), room=room)
        loaded = self._load(samples, gather)
        return loaded if len(loaded.samples) else replace(loaded, columns=())

    def image_bytes(self) -> int:
        """Decode the first image to see how much memory one takes; 0 if it is no array."""
        if self.decode is None:
            return 0
        try:
            with _unchanged_random_state():  # img_preproc may draw from it
                image = next(self._images(self.samples[:1], []), None)
        except CurationError:
            return 0  # it is told of where its turn comes
        array = as_array(image)
        return 0 if array is None else array.nbytes

    def _load(self, samples: np.ndarray, gather: Callable[[Iterator[Any]], Any]) -> Loaded:
        """Load samples; ``gather`` is given the images one by one."""
        wanted = self.samples[samples]
        found, vectors, present = self._read_vectors(wanted)
        num_missing = int(np.count_nonzero(~present)) + len(wanted) - len(found)
        columns: list[Any] = [vectors.get("", vectors)]
        columns += [self._extras(name, found) for name in self.extra_keys]
        if self.missing == "mask":
            columns.append(present)
        rows: list[int] = []
        images = gather(self._images(found, rows, _without_none(columns, len(found))))
        if len(rows) < len(found):
            columns = [rows_of(column, rows) for column in columns]
        num_bad = len(found) - len(rows)
        return Loaded((images, *columns), found[rows], num_missing, num_bad)

    def _read_vectors(
        self, samples: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Give the samples to go on with, their vectors, and which have one."""
        vectors = {name: source.read(samples) for name, source in self.vectors.items()}
        has_vector = {name: usable_rows(rows) for name, rows in vectors.items()}
        present: np.ndarray = np.logical_and.reduce(list(has_vector.values()))
        if self.missing == "mask":
            for name, rows in vectors.items():
                rows[~has_vector[name]] = 0  # a NaN times a mask is NaN
        if self.missing == "mask" or present.all():
            return samples, vectors, present
        if self.missing == "raise":
            row = int(np.argmin(present))
            source = next(self.vectors[n] for n in vectors if not has_vector[n][row])
            raise _no_vector(self.indexed, source, int(samples[row]))
        vectors = {name: rows[present] for name, rows in vectors.items()}
        return samples[present], vectors, present[present]

    def _images(
        self, samples: np.ndarray, rows: list[int], tried: Iterable[int] | None = None
    ) -> Iterator[Any]:
        """Give the images of samples that have one, and add the rows of those to ``rows``.

        Args:
            samples: ``(n,)`` numbers of samples.
            rows: Is added to as images are given.
            tried: Rows to decode; by default all.
        """
        places = self.indexed.places[_IMAGE]
        there = (places.starts[samples] >= 0).tolist()
        stored = self.reader.read(samples[there], places)
        found = dict(zip(np.flatnonzero(there).tolist(), stored, strict=True))
        for row in range(len(samples)) if tried is None else tried:
            try:
                if row not in found:
                    raise self.bad_sample(int(samples[row]), "it has no image")
                image = self._decoded(int(samples[row]), found[row])
            except SampleError as error:
                self.let_pass(error)
                continue
            rows.append(row)
            yield image

    def _decoded(self, sample: int, data: bytes) -> Any:
        if self.decode is None:
            return data
        try:
            image = decode_to_pillow(data, self.max_pixels)
        except DataError as error:
            raise self.bad_sample(sample, str(error)) from error
        return np.array(image) if self.img_preproc is None else self.img_preproc(image)

    def _extras(self, name: str, samples: np.ndarray) -> list[Any]:
        if name == KEY:
            return [self.indexed.keys[sample].as_py() for sample in samples.tolist()]
        places = self.indexed.places[name]
        there = places.starts[samples] >= 0
        stored = iter(self.reader.read(samples[there], places))
        return [
            self._extra(name, sample, next(stored) if there[row] else None)
            for row, sample in enumerate(samples.tolist())
        ]

    def _extra(self, name: str, sample: int, data: bytes | None) -> Any:
        """Decode a component; None if it can't be and the handler let that pass."""
        try:
            if data is None:
                raise self.bad_sample(sample, f"it has no .{name}")
            # of a compound extension, such as outputs.txt, the last part says what it is
            return _DECODERS.get(name.lower().rpartition(".")[2], bytes)(data)
        except SampleError as error:
            self.let_pass(error)
        except ValueError as error:
            self.let_pass(self.bad_sample(sample, f"its .{name} can't be read: {error}"))
        return None

    def let_pass(self, error: SampleError) -> None:
        """Raise a sample's error, unless the handler takes it."""
        if self.handler is None or not self.handler(error):
            raise error

    def bad_sample(self, sample: int, reason: str) -> SampleError:
        """Make the error of a sample that can't be given."""
        shard = self.indexed.shards[int(self.indexed.shards_of(np.array([sample]))[0])]
        key = self.indexed.keys[sample].as_py()
        message = f"{self.indexed.name(sample)}: {reason}; a handler may leave it out"
        return SampleError(message, shard=shard.path, key=key)

    def _open_vectors(
        self,
        plain: str | None,
        folders: Mapping[str, str | None],
        digits: KeyDigits,
        s3: S3Settings | None,
    ) -> dict[str, SampleVectors]:
        named = {name: url for name, url in folders.items() if url is not None}
        if plain is not None and named:
            raise InputError(
                "embeddings are named both by the README's parameter and by the current "
                "ones; give either"
            )
        if plain is None and not named:
            npy = self.indexed.places[_NPY]
            return {"": find_vectors(self.indexed, npy, self.reader)}
        if plain is not None:
            named = {"": plain}
        return {
            name: open_folder(
                self.indexed, open_storage(url, s3), digits, f"{name or 'img'}_emb_"
            )
            for name, url in named.items()
        }

    def _usable(self) -> np.ndarray:
        """Give the numbers of samples that can be given."""
        everything = np.arange(self.indexed.num_samples)
        if self.missing != "skip":
            return everything
        present = [vectors.present() for vectors in self.vectors.values()]
        usable = everything[np.stack(present).all(axis=0)]
        if len(usable) < len(everything):
            log.warning(
                "%d of %d samples have no embedding and are left out",
                len(everything) - len(usable),
                len(everything),
            )
        return usable

    def _counts(self) -> tuple[int, ...]:
        shards = self.indexed.shards_of(self.samples)
        counts = np.bincount(shards, minlength=len(self.indexed.shards))
        return tuple(counts.tolist())

    def _chunks(self) -> Iterator[np.ndarray]:
        """Give the samples of this rank and this worker, some at a time."""
        order, worker = self.order, get_worker_info()
        if worker is None:
            order = replace(order, batch_size=CHUNK_SAMPLES)
        else:
            parts = order.world_size * worker.num_workers
            if len(self.samples) < parts and not self.resampling:
                raise InputError(
                    f"{len(self.samples)} samples are not enough for {parts} workers"
                )
            order = replace(
                order,
                batch_size=CHUNK_SAMPLES,
                rank=order.rank * worker.num_workers + worker.id,
                world_size=parts,
            )
        return order.batches(self.epoch)


def _as_tensor(pixels: np.ndarray) -> torch.Tensor:
    out = torch.empty((3, *pixels.shape[:2]))
    as_floats(pixels[None], out[None].numpy())
    return out


def rows_of(column: Any, rows: list[int]) -> Any:
    """Give some rows of a list, an array or a tensor, or a dict of those."""
    if isinstance(column, list):
        return [column[row] for row in rows]
    return each_of(lambda array: array[rows], column)


def each_of(change: Callable[[Any], Any], column: Any) -> Any:
    """Change an array or a tensor, or those of a dict; a list stays as it is."""
    if isinstance(column, dict):
        return {name: change(value) for name, value in column.items()}
    return column if isinstance(column, list) else change(column)


def _without_none(columns: Sequence[Any], num_rows: int) -> list[int]:
    """Number the rows whose extras could all be read."""
    lists = [column for column in columns if isinstance(column, list)]
    return [r for r in range(num_rows) if all(column[r] is not None for column in lists)]


def _one_by_one(column: Any) -> Iterable[Any]:
    """Give each row of a list, an array or a dict of arrays; of arrays, as tensors."""
    if isinstance(column, dict):
        rows = zip(*map(_one_by_one, column.values()), strict=True)
        return [dict(zip(column, row, strict=True)) for row in rows]
    if isinstance(column, list):
        return column
    is_mask = column.dtype == bool
    return column.tolist() if is_mask else list(torch.from_numpy(column))


@contextmanager
def _unchanged_random_state() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "txt": decode_text,
    "json": load_json,
    "cls": int,
}


def _wanted(extra_keys: Sequence[str], images: Sequence[str]) -> dict[str, Sequence[str]]:
    """Name the components to index, and the extensions that each may have."""
    extras = {name: (name,) for name in extra_keys if name != KEY}
    return {**extras, _IMAGE: images or ImageSettings().extensions, _NPY: (_NPY,)}


def _no_vector(indexed: IndexedShards, source: SampleVectors, sample: int) -> TableError:
    return TableError(
        f"{indexed.name(sample)} has no embedding: {source.where(sample)}; missing='skip' "
        "leaves such samples out, missing='mask' tells which they are"
    )


def _place_among_ranks(rank: int | None, world_size: int | None) -> dict[str, int]:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = (
            torch.distributed.get_rank() if distributed else int(os.environ.get("RANK", 0))
        )
    if world_size is None:
        world_size = (
            torch.distributed.get_world_size()
            if distributed
            else int(os.environ.get("WORLD_SIZE", 1))
        )
    return {"rank": rank, "world_size": world_size}
