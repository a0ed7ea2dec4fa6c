"""Batches for training a prior: image embeddings with captions, or with text embeddings.

The names, the order of rows, the split arithmetic and the batches are those of
DALLE2-pytorch's ``dataloaders``; what is done differently is said where it is done.

Source: DALLE2-pytorch, ``dalle2_pytorch/dataloaders/README.md`` and ``prior_loader.py``.
"""

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from curation.embedding_parts import (
    EmbeddingParts,
    check_same_rows,
    open_embedding_parts,
    with_captions,
)
from curation.errors import InputError, TableError
from curation.npy import usable_rows
from curation.training.batch_images import shared_memory_errors
from curation.training.clip_tokens import ClipTokenizer, Tokenizer
from curation.training.sample_order import spread
from curation.training.shared_number import SharedNumber

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]
Missing = Literal["raise", "skip", "keep"]

BUNDLE_ROWS = 1024
"""Rows read at once, and cut into batches afterwards: a batch of two costs a slice, not a
read of its own and a message from a worker."""

READING_THREADS = 2
BUNDLES_AHEAD = 4  # of a few MB; more helps only storage that answers unevenly

TOKENIZING_WORKERS = 2  # at most; as many as feed a prior of any size


def get_reader(
    text_conditioned: bool,
    img_url: str,
    meta_url: str | None = None,
    txt_url: str | None = None,
) -> EmbeddingParts | tuple[EmbeddingParts, EmbeddingParts]:
    """Open the embeddings of a folder, with their captions or their text embeddings.

    Args:
        text_conditioned: Whether the prior is trained on captions.
        img_url: Folder of image embeddings: local, ``s3://…``, or of a web server.
        meta_url: Folder of Parquet files with a column ``caption``; needed for captions.
        txt_url: Folder of text embeddings; needed without captions.

    Returns:
        One reader with captions, or readers of image and text embeddings.

    Raises:
        InputError: A URL is missing, or a folder has no numbered files.
        TableError: Parts are damaged, differ in width or dtype, or don't belong together.
    """
    if not img_url:
        raise InputError("img_url is missing: the folder of the image embeddings")
    if text_conditioned:
        if not meta_url:
            raise InputError("meta_url is missing: text_conditioned needs the captions")
        return with_captions(open_embedding_parts(img_url), meta_url)
    if not txt_url:
        raise InputError(
            "txt_url is missing: without text_conditioned, text embeddings are needed"
        )
    images, texts = open_embedding_parts(img_url), open_embedding_parts(txt_url)
    check_same_rows(images, texts)
    return images, texts


@dataclass(frozen=True, slots=True)
class Bundle:
    """Some consecutive batches as one."""

    images: torch.Tensor
    texts: torch.Tensor
    sizes: tuple[int, ...]
    """Rows of each batch; fewer than there were where vectors are missing."""
    num_missing: int = 0
    """Rows that were left out."""
    num_again: int = 0
    """Rows that stand in for batches of which nothing was left."""

    def batches(self) -> Iterator[Batch]:
        """Cut the bundle into its batches, empty ones too."""
        sizes = list(self.sizes)
        yield from zip(
            torch.split(self.images, sizes), torch.split(self.texts, sizes), strict=True
        )


class PriorEmbeddingDataset(IterableDataset[Batch]):
    """Rows ``[start, stop)`` of a reader, in order, in batches.

    Iterated inside a worker process, it gives that worker's share.

    Args:
        text_conditioned: Give tokens of captions; otherwise text embeddings.
        batch_size: Rows of a batch; the last one of the rows has what is left.
        start: First row.
        stop: Row after the last.
        image_reader: Image embeddings, opened with captions if ``text_conditioned``.
        text_reader: Text embeddings; needed unless ``text_conditioned``.
        tokenizer: Captions to ``(B, tokens)`` int64; CLIP's by default, 77 tokens.
        missing: What to do with rows whose vector is all zeros, which is how reordering
            tools mark a sample without embedding, or not finite: ``raise`` an error,
            ``skip`` them (their batch is shorter then, and left out if nothing remains), or
            ``keep`` them, as the original does.
        refill_from: ``(first, last)``: rows that come, for the second time, in the place of
            a batch of which nothing remains. For several ranks, which have to have as many
            batches; :func:`make_splits` names the rows of the split there.

    Batches are ``(images, texts)``: float32 ``(B, dim)``, values as stored and not
    normalised, and int64 ``(B, 77)`` tokens or float32 ``(B, dim)``.

    Raises:
        InputError: The range is empty or not inside the reader, or what
            ``text_conditioned`` asks for is missing.
        TableError: The readers have different rows.
    """

    start = SharedNumber()
    """Row with which the next iteration begins; as the two below, worker processes that
    run already see it set."""
    stop = SharedNumber()
    """Row after the last."""
    batch_size = SharedNumber()
    """Rows of a batch."""

    def __init__(
        self,
        text_conditioned: bool,
        batch_size: int,
        start: int,
        stop: int,
        image_reader: EmbeddingParts,
        text_reader: EmbeddingParts | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        missing: Missing = "raise",
        refill_from: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        _check_rows(batch_size, start, stop, image_reader)
        if text_conditioned and image_reader.captions is None:
            raise InputError(
                "text_conditioned needs a reader with captions: "
                "get_reader(text_conditioned=True, img_url=…, meta_url=…)"
            )
        if not text_conditioned:
            if text_reader is None:
                raise InputError("text_reader is missing: without captions it is needed")
            check_same_rows(image_reader, text_reader)
        self.text_conditioned = text_conditioned
        self.batch_size = batch_size
        self.first = int(start)
        """First row of this rank's range; :meth:`set_start` never goes before it."""
        self.start = int(start)
        self.stop = int(stop)
        self.image_reader = image_reader
        self.text_reader = text_reader
        self.tokenizer = tokenizer
        if text_conditioned and tokenizer is None:
            self.tokenizer = ClipTokenizer()
        self.missing = missing
        self.refill_from = refill_from

    def __len__(self) -> int:
        """Count the rows of an iteration: samples, not batches."""
        return self.stop - self.start

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        mine, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for first, last in self.bundle_ranges(self.start)[mine::step]:
            for images, texts in self.read_bundle(first, last).batches():
                if len(images):
                    yield images, texts

    def __str__(self) -> str:
        return (
            f"<PriorEmbeddingDataset: start: {self.start}, stop: {self.stop}, "
            f"len: {len(self)}>"
        )

    def set_start(self, start: int) -> None:
        """Begin the next iterations at a row, to go on with an epoch.

        A row before this rank's range begins at its first one, so ``set_start(0)`` means
        "from the beginning" on every rank. Any other row leaves ranks with unlike numbers
        of batches; to go on with an epoch on several, use :meth:`PriorLoader.state_dict`.
        Worker processes that stay (``persistent_workers=True``) see it.

        Raises:
            InputError: No rows would be left.
        """
        if start >= self.stop:
            raise InputError(
                f"set_start({start}): this rank's rows are {self.first} to {self.stop}; "
                "begin the next epoch with set_start(0)"
            )
        self.start = max(int(start), self.first)

    def get_start(self) -> int:
        """Give the row with which the next iteration begins."""
        return self.start

    def bundle_ranges(self, start: int) -> list[tuple[int, int]]:
        """Cut rows from ``start`` to the end into ranges that are read at once."""
        rows = self.batch_size * max(1, BUNDLE_ROWS // self.batch_size)
        return [
            (first, min(first + rows, self.stop)) for first in range(start, self.stop, rows)
        ]

    def read_bundle(self, first: int, last: int) -> Bundle:
        """Read rows ``[first, last)`` as consecutive batches.

        Raises:
            TableError: Vectors are missing, and ``missing`` is ``raise``; or none is left
                to refill an empty batch.
        """
        bundle = self._read(first, last)
        if self.refill_from is None or all(bundle.sizes):
            return bundle
        batches = [
            batch if size else self._others(first + number * self.batch_size)
            for number, (size, batch) in enumerate(
                zip(bundle.sizes, bundle.batches(), strict=True)
            )
        ]
        images, texts = map(torch.cat, zip(*batches, strict=True))
        sizes = tuple(len(rows) for rows, _ in batches)
        num_again = sum(sizes) - sum(bundle.sizes)
        return Bundle(images, texts, sizes, bundle.num_missing, num_again)

    def _others(self, row: int) -> Batch:
        """Read a batch that stands in for one of which nothing was left."""
        assert self.refill_from is not None
        (first, last), size = self.refill_from, self.batch_size
        for part in spread(ceil((last - first) / size), (row - first) // size + 1):
            begin = first + part * size
            bundle = self._read(begin, min(begin + size, last))
            if bundle.sizes[0]:
                return bundle.images, bundle.texts
        raise TableError(
            f"{self.image_reader.storage.url}: none of rows {first} to {last} has a vector"
        )

    def _read(self, first: int, last: int) -> Bundle:
        vectors = [self.image_reader.read(first, last)]
        if not self.text_conditioned:
            assert self.text_reader is not None
            vectors.append(self.text_reader.read(first, last))
        sizes = [
            min(self.batch_size, last - row) for row in range(first, last, self.batch_size)
        ]
        present = self._present(vectors, first)
        num_missing = 0
        if not present.all():
            vectors = [rows[present] for rows in vectors]
            kept = np.split(present, np.cumsum(sizes)[:-1])
            sizes = [int(np.count_nonzero(rows)) for rows in kept]
            num_missing = len(present) - sum(sizes)
        images, *texts = map(torch.from_numpy, vectors)
        if self.text_conditioned:
            captions = self.image_reader.read_captions(first, last)
            texts = [self._tokens([captions[row] for row in np.flatnonzero(present)])]
        return Bundle(images, texts[0], tuple(sizes), num_missing)

    def _tokens(self, captions: list[str]) -> torch.Tensor:
        assert self.tokenizer is not None
        tokens = self.tokenizer(captions)
        if len(tokens) != len(captions):
            raise InputError(
                f"the tokenizer gave {len(tokens)} rows for {len(captions)} captions"
            )
        return tokens

    def _present(self, vectors: list[np.ndarray], first: int) -> np.ndarray:
        """Tell for each row whether all its vectors are there."""
        if self.missing == "keep":
            return np.ones(len(vectors[0]), bool)
        present: np.ndarray = np.all([usable_rows(rows) for rows in vectors], axis=0)
        if self.missing == "raise" and not present.all():
            row = int(np.argmin(present))
            is_finite = all(np.isfinite(rows[row]).all() for rows in vectors)
            found = "is all zeros" if is_finite else "has NaN or infinite values"
            raise TableError(
                f"{self.image_reader.storage.url}: row {first + row} {found}: the sample "
                "has no embedding; missing='skip' leaves such rows out"
            )
        return present


class PriorLoader(DataLoader[Batch]):
    """Loads the batches of a :class:`PriorEmbeddingDataset`, resumable at any of them.

    With worker processes, those read and tokenize; without, threads read ahead. The
    batches and their order are the same. A loop over the loader may be left at any time.
    One of :func:`make_splits` for several ranks has as many batches on each of them.
    """

    dataset: PriorEmbeddingDataset

    def __init__(self, dataset: PriorEmbeddingDataset, num_workers: int = 0) -> None:
        super().__init__(dataset, batch_size=None, num_workers=num_workers)
        self.num_missing = 0
        """Rows left out in the current or last iteration, for want of a vector."""
        self.num_again = 0
        """Rows that came a second time there, in batches of which nothing was left."""
        self._position: int | None = None
        self._resume_at: int | None = None

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return ceil(len(self.dataset) / self.dataset.batch_size)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        dataset = self.dataset
        self._position = dataset.start if self._resume_at is None else self._resume_at
        self._resume_at = None
        self.num_missing = self.num_again = 0
        for bundle in self._bundles(dataset.bundle_ranges(self._position)):
            self.num_missing += bundle.num_missing
            self.num_again += bundle.num_again
            for images, texts in bundle.batches():
                self._position = min(self._position + dataset.batch_size, dataset.stop)
                if len(images):
                    yield images, texts
        self._position = None
        if self.num_missing:
            log.warning(
                "%d rows without a vector were left out, %d others came again so that this "
                "rank has as many batches as the others",
                self.num_missing,
                self.num_again,
            )

    def state_dict(self) -> dict[str, Any]:
        """Give what :meth:`load_state_dict` needs to go on after the last batch given.

        Between epochs, that is the beginning of the next one.
        """
        resume_at = self._resume_at if self._position is None else self._position
        rows = (self.dataset.first, self.dataset.stop)
        return {"row": resume_at, "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next iteration where the saved one was; later ones as usual.

        Raises:
            InputError: The state is of other rows: another split, rank or world size.
        """
        rows = (self.dataset.first, self.dataset.stop)
        if tuple(state["rows"]) != rows:
            raise InputError(
                f"this loader reads rows {rows[0]} to {rows[1]}; the state is of rows "
                f"{state['rows'][0]} to {state['rows'][1]}, that is, of another split, "
                "rank or world size, or made with another value of even"
            )
        at_end = state["row"] == self.dataset.stop
        self._position, self._resume_at = None, None if at_end else state["row"]

    def _bundles(self, ranges: list[tuple[int, int]]) -> Iterable[Bundle]:
        if not self.num_workers:
            return self._read_ahead(ranges)
        return self._by_workers(ranges)

    def _by_workers(self, ranges: list[tuple[int, int]]) -> Iterator[Bundle]:
        with shared_memory_errors():
            yield from DataLoader(
                _Bundles(self.dataset, ranges),
                batch_size=None,
                num_workers=self.num_workers,
            )

    def _read_ahead(self, ranges: list[tuple[int, int]]) -> Iterator[Bundle]:
        """Read by threads while the training step runs."""
        pool = ThreadPoolExecutor(READING_THREADS, "prior embeddings")
        waiting: deque[Future[Bundle]] = deque()
        try:
            for rows in ranges:
                waiting.append(pool.submit(self.dataset.read_bundle, *rows))
                if len(waiting) > BUNDLES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Bundles(Dataset[Bundle]):
    """What the workers of a loader are asked for."""

    def __init__(
        self, dataset: PriorEmbeddingDataset, ranges: list[tuple[int, int]]
    ) -> None:
        self.dataset = dataset
        self.ranges = ranges

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, index: int) -> Bundle:
        return self.dataset.read_bundle(*self.ranges[index])


def make_splits(
    text_conditioned: bool,
    batch_size: int,
    num_data_points: int,
    train_split: float,
    eval_split: float,
    image_reader: EmbeddingParts,
    text_reader: EmbeddingParts | None = None,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    *,
    tokenizer: Tokenizer | None = None,
    num_workers: int | None = None,
    missing: Missing = "raise",
    even: bool | None = None,
) -> tuple[PriorLoader, PriorLoader, PriorLoader]:
    """Cut a reader into train, evaluation and test loaders for one rank.

    Of ``n = num_data_points`` rows from ``start`` on, ``int(train_split * n)`` are for
    training, the next ``int(eval_split * n)`` for evaluation, the others for the test.
    Unlike the original, ``start`` moves all three splits.

    Of the ``m`` rows of a split, every rank has ``p = ceil(m / world_size)`` consecutive
    ones. By the original's arithmetic rank ``r`` begins at ``r * p``, and the last has the
    fewer that are left; so it may have fewer batches than the others, which then wait for
    it for ever where gradients are exchanged. ``even`` ranks begin at
    ``r * m // world_size``: all have ``p`` rows, in batches of the same sizes, and up to
    ``world_size - 1`` rows come on two ranks, as with torch's ``DistributedSampler``.

    Args:
        text_conditioned: As :class:`PriorEmbeddingDataset`, like ``batch_size``,
            ``image_reader``, ``text_reader``, ``tokenizer`` and ``missing``.
        batch_size: Rows of a batch on one rank.
        num_data_points: How many rows to use; all from ``start`` if there are fewer.
        train_split: Fraction of the rows in (0, 1).
        eval_split: As ``train_split``; both add up to less than 1.
        image_reader: Of :func:`get_reader`.
        text_reader: Of :func:`get_reader`.
        start: First row to use.
        rank: Which of the ranks this is, from 0.
        world_size: How many ranks there are.
        tokenizer: Of captions.
        num_workers: Processes that read and tokenize ahead, for each loader that is being
            iterated. By default up to 2 with captions, and none without: reading vectors is
            faster than sending them.
        missing: What to do with rows that are all zeros. With ``skip`` and several ranks, a
            batch of which nothing is left has other rows of the split in it, which so come
            twice; ``num_again`` of the loader counts them.
        even: Whether all ranks have as many rows; by default if there are several.
            ``False`` is the original's arithmetic.

    Returns:
        The three loaders. Each is a ``DataLoader`` with ``len`` in batches,
        ``state_dict`` and ``load_state_dict``; its ``dataset`` has ``start`` and ``stop``.

    Raises:
        InputError: A number is out of range, or a rank would have no rows.
        TableError: The readers have different rows.
    """
    num_rows = _rows_used(num_data_points, image_reader, start)
    if not 0 <= rank < world_size:
        raise InputError(f"rank {rank} is not one of world_size={world_size}")
    if train_split <= 0 or eval_split <= 0 or train_split + eval_split >= 1:
        raise InputError(
            f"train_split={train_split} and eval_split={eval_split} must be positive and "
            "leave something for the test: add up to less than 1"
        )
    train_stop = start + int(train_split * num_rows)
    eval_stop = train_stop + int(eval_split * num_rows)
    if text_conditioned and tokenizer is None:
        tokenizer = ClipTokenizer()
    if num_workers is None:
        available = min(TOKENIZING_WORKERS, os.cpu_count() or 1)
        num_workers = available if text_conditioned else 0
    readers = (image_reader, text_reader)

    cut = _even_rows if even or (even is None and world_size > 1) else _rows_of_rank

    def loader(name: str, first: int, last: int) -> PriorLoader:
        rows = cut(name, first, last, rank, world_size)
        dataset = PriorEmbeddingDataset(
            text_conditioned,
            batch_size,
            *rows,
            *readers,
            tokenizer=tokenizer,
            missing=missing,
            refill_from=(first, last) if world_size > 1 else None,
        )
        return PriorLoader(dataset, num_workers)

    return (
        loader("train", start, train_stop),
        loader("evaluation", train_stop, eval_stop),
        loader("test", eval_stop, start + num_rows),
    )


def _rows_used(num_data_points: int, reader: EmbeddingParts, start: int) -> int:
    if not 0 <= start < reader.count:
        raise InputError(f"start={start}: the reader has rows 0 to {reader.count}")
    if num_data_points < 1:
        raise InputError(f"num_data_points={num_data_points} must be at least 1")
    available = reader.count - start
    if num_data_points > available:
        log.warning(
            "num_data_points=%d, but only %d rows are there from row %d on; using those",
            num_data_points,
            available,
            start,
        )
    return min(num_data_points, available)


def _rows_of_rank(
    name: str, first: int, last: int, rank: int, world_size: int
) -> tuple[int, int]:
    per_rank = ceil((last - first) / world_size)
    start = first + rank * per_rank
    stop = min(start + per_rank, last)
    if start >= stop:
        raise _no_rows(name, last - first, rank, world_size)
    return start, stop


def _even_rows(
    name: str, first: int, last: int, rank: int, world_size: int
) -> tuple[int, int]:
    num_rows = last - first
    if num_rows < world_size:  # the same error on all ranks: none is left waiting
        raise _no_rows(name, num_rows, rank, world_size)
    start = first + rank * num_rows // world_size
    return start, start + ceil(num_rows / world_size)


def _no_rows(name: str, num_rows: int, rank: int, world_size: int) -> InputError:
    return InputError(
        f"rank {rank} of {world_size} would have no rows of the {name} split, which has "
        f"{num_rows}; use more data points or fewer ranks"
    )


def _check_rows(
    batch_size: int, start: int, stop: int, image_reader: EmbeddingParts
) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} must be at least 1")
    if not 0 <= start < stop <= image_reader.count:
        raise InputError(
            f"rows {start} to {stop} were asked for; the reader has rows 0 to "
            f"{image_reader.count}"
        )
