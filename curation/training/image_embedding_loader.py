"""The loader of a decoder's batches: whole epochs over ranks and worker processes.

What a sample is belongs in ``image_embedding.py``, which samples make a batch in
``sample_order.py``.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from curation.errors import CurationError, DataError, InputError
from curation.storage import S3Settings
from curation.training.batch_images import (
    BatchSlots,
    RecycledArrays,
    SlotImages,
    as_floats,
    shared_memory_errors,
)
from curation.training.image_embedding import (
    Handler,
    ImageEmbeddingDataset,
    Loaded,
    Missing,
    each_of,
    rows_of,
)
from curation.training.sample_order import SampleOrder, spread

if TYPE_CHECKING:
    from PIL import Image

    from curation.image_loaders import ImageLoader

log = logging.getLogger(__name__)

Decode = Literal["pillow", "dali"] | None

DEFAULT_WORKERS = 4  # at most; one core decodes 1,000 to 2,000 small JPEGs a second
BATCHES_AHEAD = 2  # of each worker process


def create_image_embedding_dataloader(
    tar_url: str | Iterable[str],
    num_workers: int | None = None,
    batch_size: int = 32,
    embeddings_url: str | None = None,
    *,
    img_embeddings_url: str | None = None,
    text_embeddings_url: str | None = None,
    index_width: int | None = None,
    shard_width: int | None = None,
    shuffle_num: int | None = None,
    shuffle_shards: bool = True,
    resample_shards: bool = False,
    img_preproc: "Callable[[Image.Image], Any] | None" = None,
    extra_keys: Sequence[str] = (),
    image_extensions: Sequence[str] = (),
    handler: Handler | None = None,
    missing: Missing = "raise",
    decode: Decode = "pillow",
    image_size: int | None = None,
    device: str = "cuda",
    seed: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
    s3: S3Settings | None = None,
) -> "ImageEmbeddingLoader":
    """Make a loader of batches of images and embeddings.

    Args:
        tar_url: Tars, or the folder of a release or of filtered shards.
        num_workers: Processes that read and decode; by default one per core, at most 4.
            With 0, this process does it.
        batch_size: Samples of a batch on one rank.
        embeddings_url: As ``embedding_folder_url`` of :class:`ImageEmbeddingDataset`,
            which explains all others that are not listed here.
        img_embeddings_url: As ``img_embedding_folder_url``.
        text_embeddings_url: As ``text_embedding_folder_url``.
        index_width: See there.
        shard_width: See there.
        shuffle_num: Mix samples. Where all is local, all with all, whatever the number;
            else this many that follow each other, which each worker then holds.
        shuffle_shards: See there.
        resample_shards: See there.
        img_preproc: See there.
        extra_keys: See there.
        image_extensions: See there.
        handler: See there; it is called in worker processes.
        missing: See there.
        decode: Or ``dali``: images are decoded by DALI in this process, on ``device``.
        image_size: Height and width of DALI's images: the shorter side is resized to it,
            then the middle cut out.
        device: Of DALI: ``cuda``, ``cuda:N``, or ``cpu``.
        seed: See there.
        rank: See there.
        world_size: See there.
        s3: See there.

    Returns:
        A ``DataLoader``. Its batches are the dataset's samples put together: tensors are
        stacked, embeddings to float32 ``(B, dim)``, other things are lists.

    Raises:
        InputError: As the dataset; or DALI's settings don't fit together.
        ShardError: As the dataset.
        TableError: As the dataset.
    """
    if (decode == "dali") != (image_size is not None):
        raise InputError("decode='dali' needs image_size, and nothing else does")
    if decode == "dali" and img_preproc is not None:
        raise InputError(
            "img_preproc takes PIL images; with decode='dali', transform the batches"
        )
    dataset = ImageEmbeddingDataset(
        tar_url,
        embeddings_url,
        img_embedding_folder_url=img_embeddings_url,
        text_embedding_folder_url=text_embeddings_url,
        index_width=index_width,
        shard_width=shard_width,
        img_preproc=img_preproc,
        extra_keys=extra_keys,
        image_extensions=image_extensions,
        handler=handler,
        resample=resample_shards,
        shuffle_shards=shuffle_shards,
        missing=missing,
        decode=None if decode == "dali" else decode,
        seed=seed,
        rank=rank,
        world_size=world_size,
        s3=s3,
    )
    on_device = OnDevice(image_size, device, batch_size) if image_size else None
    if num_workers is None:
        num_workers = min(DEFAULT_WORKERS, os.cpu_count() or 1)
    return ImageEmbeddingLoader(dataset, batch_size, num_workers, shuffle_num, on_device)


class ImageEmbeddingLoader(DataLoader[tuple[Any, ...]]):
    """Loads batches of an :class:`ImageEmbeddingDataset`, resumable at any of them.

    Every rank gets as many batches, by any number of workers in the same order. (Only
    where tars are far away and shuffled does the order depend on the number of workers.)
    A finished epoch is followed by the next, so ``set_epoch`` is needed only to choose.
    A loop over the loader may be left at any time; the next one begins the epoch again.

    Where a handler lets errors pass, a batch is smaller. If nothing remains of it, it is
    left out; with more than one rank other samples come in its place, from anywhere in the
    data and so for the second time, since a rank that has a batch less than the others
    keeps them waiting for ever. Those are counted.
    """

    dataset: ImageEmbeddingDataset

    def __init__(
        self,
        dataset: ImageEmbeddingDataset,
        batch_size: int = 32,
        num_workers: int = 0,
        shuffle_num: int | None = None,
        on_device: "OnDevice | None" = None,
    ) -> None:
        super().__init__(dataset, batch_size=None, num_workers=num_workers)
        streamed = not dataset.random_access
        shuffle = shuffle_num or None
        self.order: SampleOrder = replace(
            dataset.order,
            batch_size=batch_size,
            shuffle=shuffle if streamed or shuffle is None else 0,
            lanes=max(1, num_workers) if streamed else 1,
        )
        dataset.reader.hold(shuffle_num or 0)
        self.num_missing = 0
        """Samples of the current or last iteration that had no embedding."""
        self.num_bad = 0
        """Samples of the current or last iteration that the handler left out."""
        self.num_again = 0
        """Samples that came a second time there, in batches of which nothing was left."""
        self._on_device = on_device
        self._recycled = RecycledArrays()
        self._pins = torch.cuda.is_available()  # into memory that a GPU can fetch from
        self._position: int | None = None
        self._resume = (0, 0)  # epoch and batch

    @property
    def epoch(self) -> int:
        """The epoch of the current or next iteration, which is the data set's."""
        return self.dataset.epoch

    def __len__(self) -> int:
        """Count the batches of an epoch.

        Raises:
            TypeError: There is no end, because shards are resampled.
        """
        if self.order.num_batches is None:
            raise TypeError("resampled shards have no end, and so no len()")
        return self.order.num_batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, and so its order.

        The epoch that a loaded state is in the middle of stays there.
        """
        if epoch != self.epoch:
            self.dataset.set_epoch(epoch)
            self._resume, self._position = (epoch, 0), None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:  # type: ignore[override]
        epoch, self._position = self.epoch, self._first_batch()
        self._resume = (epoch, 0)
        self.num_missing = self.num_bad = self.num_again = 0
        for loaded in self._loaded(self._position):
            if self._on_device and loaded.columns:
                loaded = self._decoded(loaded, self._on_device)
            self._position += 1
            self.num_missing += loaded.num_missing
            self.num_bad += loaded.num_bad
            self.num_again += loaded.num_again
            if loaded.columns:
                yield loaded.columns
        self._position = None
        self.dataset.set_epoch(epoch + 1)
        if self.num_missing or self.num_bad:
            log.warning(
                "epoch %d: %d samples had no embedding, %d were left out by the handler, "
                "%d came again so that this rank has as many batches as the others",
                epoch,
                self.num_missing,
                self.num_bad,
                self.num_again,
            )

    def _first_batch(self) -> int:
        """Give the batch to begin with; a state says it of one epoch only."""
        epoch, batch = self._resume
        return batch if epoch == self.epoch else 0

    def _decoded(self, loaded: Loaded, decode: "OnDevice") -> Loaded:
        """Decode a batch on the device, and others in its place if nothing is left."""

        def load(samples: np.ndarray) -> Loaded:
            stored = self._finished(self.dataset.load_batch(samples), None)
            return decode(stored, self.dataset) if stored.columns else stored

        decoded = decode(loaded, self.dataset)
        if decoded.columns or self.order.world_size == 1:
            return decoded
        return load_others(decoded, loaded.samples, len(self.dataset.samples), load)

    def state_dict(self) -> dict[str, Any]:
        """Give what :meth:`load_state_dict` needs to go on after the last batch given.

        It is the same for all ranks. Between epochs, it is the beginning of the next one.
        """
        batch = self._first_batch() if self._position is None else self._position
        return {"epoch": self.epoch, "batch": batch, "order": self._described()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next iteration where the saved one was; later ones as usual.

        Raises:
            InputError: The state is of another order: other data, batch size, seed …
        """
        mine = self._described()
        other = {
            name: (state["order"].get(name), value)
            for name, value in mine.items()
            if state["order"].get(name) != value
        }
        if other:
            listed = ", ".join(f"{n}={a} (now {b})" for n, (a, b) in other.items())
            raise InputError(
                f"the state is of another order of samples, with {listed}; make the loader "
                "as it was made then"
            )
        epoch, batch = state["epoch"], state["batch"]
        if batch == self.order.num_batches:  # saved after an epoch's last batch
            epoch, batch = epoch + 1, 0
        self._resume, self._position = (epoch, batch), None
        self.dataset.set_epoch(epoch)

    def _described(self) -> dict[str, Any]:
        """Say what the order of samples depends on, for all ranks alike."""
        described = asdict(self.order)
        del described["rank"], described["counts"]
        return described | {
            "num_shards": len(self.order.counts),
            "num_samples": self.order.num_samples,
        }

    def _loaded(self, first: int) -> Iterator[Loaded]:
        """Give what becomes of each batch, from ``first`` on."""
        slots = self._slots()
        asked = ((s, slots and slots.take()) for s in self.order.batches(self.epoch, first))
        batches = DataLoader(
            _Batches(self.dataset, slots, self.order.world_size > 1),
            sampler=asked,
            batch_size=None,
            num_workers=self.num_workers,
            prefetch_factor=BATCHES_AHEAD if self.num_workers else None,
            collate_fn=_unchanged,
        )
        with shared_memory_errors():
            for slot, result in batches:
                if isinstance(result, CurationError):
                    raise result
                yield self._finished(result, slots)
                if slots is not None and slot is not None:
                    slots.give_back(slot)

    def _finished(self, loaded: Loaded, slots: BatchSlots | None) -> Loaded:
        """Make tensors of arrays; take images out of their slot; make pixels floats."""
        if not loaded.columns:
            return loaded
        images, *others = loaded.columns
        if slots is not None and isinstance(images, SlotImages):
            images = slots.images(images)
        if isinstance(images, np.ndarray):
            images = self._copied(images)
        tensors = (each_of(self._as_tensor, column) for column in others)
        return replace(loaded, columns=(images, *tensors))

    def _copied(self, images: np.ndarray) -> torch.Tensor:
        if self.dataset.gives_pixels:
            batch, height, width, colours = images.shape
            out = self._tensor((batch, colours, height, width), np.dtype(np.float32))
            as_floats(images, out.numpy())
        else:
            out = self._tensor(images.shape, images.dtype)
            np.copyto(out.numpy(), images)
        return out

    def _tensor(self, shape: tuple[int, ...], dtype: np.dtype) -> torch.Tensor:
        if self._pins:
            return torch.from_numpy(np.empty(0, dtype)).new_empty(shape, pin_memory=True)
        return self._recycled.take(shape, dtype)

    def _as_tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._pins else tensor

    @cached_property
    def _image_bytes(self) -> int:
        return self.dataset.image_bytes()

    def _slots(self) -> BatchSlots | None:
        """Make room for the images of batches, if they are arrays that workers leave."""
        if not self.num_workers:
            return None
        slot_bytes = self.order.batch_size * self._image_bytes
        # those asked for ahead, and the one that is looked at
        num_slots = self.num_workers * BATCHES_AHEAD + 1
        return BatchSlots(num_slots, slot_bytes) if slot_bytes else None


class OnDevice:
    """Decodes the bytes of a batch by DALI, on the device where they are wanted."""

    def __init__(self, image_size: int, device: str, batch_size: int) -> None:
        self.image_size = image_size
        self.device = device
        self.batch_size = batch_size
        self._loader: ImageLoader | None = None

    def __call__(self, loaded: Loaded, dataset: ImageEmbeddingDataset) -> Loaded:
        """Turn stored images into float32 ``(B, 3, size, size)`` in [0, 1]."""
        from curation.image_loaders import EncodedImage

        stored, *others = loaded.columns
        images = [EncodedImage(row, data) for row, data in enumerate(stored)]
        kept, pixels = [], []
        for batch in self._dali().load(images):
            rows = []
            for slot, image in enumerate(batch.images):
                if image.error is None:
                    rows.append(slot)
                    kept.append(image.row)
                    continue
                sample = int(loaded.samples[image.row])
                dataset.let_pass(dataset.bad_sample(sample, image.error))
            pixels.append(batch.pixels[rows])
        decoded = torch.cat(pixels).permute(0, 3, 1, 2).float().div_(255)
        if len(kept) < len(stored):
            others = [rows_of(column, kept) for column in others]
        columns = (
            decoded,
            *(each_of(lambda t: t.to(self.device), column) for column in others),
        )
        return replace(
            loaded,
            columns=columns if kept else (),
            samples=loaded.samples[kept],
            num_bad=loaded.num_bad + len(stored) - len(kept),
        )

    def _dali(self) -> "ImageLoader":
        from curation.image_loaders import LoaderSettings, make_image_loader
        from curation.image_transform import ImageTransform

        if self._loader is None:
            size = self.image_size
            transform = ImageTransform(height=size, width=size, resize=(size, size))
            settings = LoaderSettings(batch_size=self.batch_size, device=self.device)
            self._loader = make_image_loader("dali", transform, settings)
        return self._loader


Asked = tuple[np.ndarray, int | None]
"""Samples of a batch, and the slot for their images if there is one."""


class _Batches(Dataset[tuple[int | None, Loaded | CurationError]]):
    """What the workers of a loader are asked for: samples' numbers to a whole batch."""

    def __init__(
        self, dataset: ImageEmbeddingDataset, slots: BatchSlots | None, always_some: bool
    ) -> None:
        self.dataset = dataset
        self.slots = slots
        self.always_some = always_some

    def __getitem__(self, asked: Asked) -> tuple[int | None, Loaded | CurationError]:
        samples, slot = asked
        room = None if self.slots is None or slot is None else self.slots.room(slot)
        try:
            loaded = self._load(samples, room)
        except CurationError as error:
            return slot, error  # raised by a worker, it would come as another class
        if slot is None or room is None or not loaded.columns:
            return slot, loaded
        images, *others = loaded.columns
        if isinstance(images, np.ndarray) and np.may_share_memory(images, room):
            images = SlotImages(slot, images.shape, images.dtype)
        return slot, replace(loaded, columns=(images, *others))

    def _load(self, samples: np.ndarray, room: np.ndarray | None) -> Loaded:
        loaded = self.dataset.load_batch(samples, room)
        if loaded.columns or not self.always_some:
            return loaded
        load = partial(self.dataset.load_batch, room=room)
        return load_others(loaded, samples, len(self.dataset.samples), load)


def load_others(
    emptied: Loaded,
    samples: np.ndarray,
    num_samples: int,
    load: Callable[[np.ndarray], Loaded],
) -> Loaded:
    """Load other samples in the place of a batch of which nothing was left.

    Which ones follows from the batch alone, so that an epoch repeats.

    Args:
        emptied: What became of the batch.
        samples: Of the batch.
        num_samples: Of the data set: any of them may be taken.
        load: Loads samples; no columns if nothing is left of them.

    Raises:
        DataError: None can be given, of all the data set.
    """
    size = len(samples)
    for part in spread(ceil(num_samples / size), int(samples[0]) // size + 1):
        loaded = load(np.arange(part * size, min((part + 1) * size, num_samples)))
        if loaded.columns:
            return replace(
                emptied,
                columns=loaded.columns,
                samples=loaded.samples,
                num_again=len(loaded.samples),
            )
    raise DataError(
        f"none of {num_samples} samples can be given: the handler let the error of every "
        "one pass; look at those errors"
    )


def _unchanged(batch: Any) -> Any:
    return batch
