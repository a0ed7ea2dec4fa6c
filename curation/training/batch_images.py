"""The images of a batch: put together, and the memory that this is done in.

A batch of 64 images of 256 x 256 pixels is 12 MB as decoded and 50 MB as floats. Memory
that is new for every batch has each of its pages faulted in and filled with zeros, in the
worker process, in shared memory and here, which takes about as long as decoding. So it is
used again and again.
"""

import errno
import os
import shutil
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.errors import CurationError, InputError

SHARED_MEMORY = Path("/dev/shm")
MORE_SHARED_MEMORY = (
    "give the container more (docker run --shm-size=2g; in Kubernetes an emptyDir of "
    "medium Memory at /dev/shm), or use a smaller batch_size or fewer num_workers (0 needs "
    "none)"
)

MOST_FREE = 4  # arrays that wait for the next batches


def stacked(images: Iterator[Any], most: int, room: np.ndarray | None) -> Any:
    """Put arrays or tensors together as they come; list anything else.

    Args:
        images: At most ``most``.
        most: Images that there may be.
        room: As for :meth:`ImageEmbeddingDataset.load_batch`.

    Returns:
        ``(B, …)`` array, or a list.

    Raises:
        InputError: They differ in shape or dtype.
    """
    image = next(images, None)
    first = as_array(image)
    if first is None:
        return [] if image is None else _list_or_tensor([image, *images])
    shape = (most, *first.shape)
    if room is None or most * first.nbytes > len(room):
        together = np.empty(shape, first.dtype)
    else:
        together = _view(room, shape, first.dtype)
    together[0] = first
    row = 0
    for row, image in enumerate(images, 1):
        array = as_array(image)
        if array is None or (array.shape, array.dtype) != (first.shape, first.dtype):
            raise _unlike(first, image)
        together[row] = array
    return together[: row + 1]


def as_floats(pixels: np.ndarray, out: np.ndarray) -> None:
    """Turn uint8 ``(B, height, width, 3)`` into float32 ``(B, 3, height, width)``, to 1."""
    # by NumPy: torch takes up to eight times as long over it where cores are busy
    np.divide(pixels.transpose(0, 3, 1, 2), np.float32(255), out=out)


def as_array(image: Any) -> np.ndarray | None:
    """See an array or a tensor of numbers as an array; None for anything else."""
    if isinstance(image, torch.Tensor) and image.dtype != torch.bfloat16:
        return image.numpy()
    if isinstance(image, np.ndarray) and image.dtype.kind in "biuf":
        return image
    return None  # NumPy has no bfloat16


def _list_or_tensor(images: list[Any]) -> Any:
    return torch.stack(images) if isinstance(images[0], torch.Tensor) else images


class RecycledArrays:
    """Tensors whose memory comes back when nothing refers to them any more.

    A batch that is held on to is not written over: its memory has not come back.
    """

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=MOST_FREE)

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> torch.Tensor:
        """Give a tensor of ``shape``; what is in it is whatever was there before."""
        num_bytes = prod(shape) * dtype.itemsize
        memory = self._free.popleft() if self._free else None
        if memory is None or len(memory) < num_bytes:
            memory = np.empty(num_bytes, np.uint8)
        array = memory[:num_bytes].view(dtype).reshape(shape)
        # the tensor and its views keep this very array alive, which is not the memory
        weakref.finalize(array, self._free.append, memory).atexit = False
        return torch.from_numpy(array)


@dataclass(frozen=True)
class SlotImages:
    """Images of a batch that were left in a slot."""

    slot: int
    shape: tuple[int, ...]
    dtype: np.dtype


class BatchSlots:
    """Shared memory that worker processes leave the images of a batch in.

    Args:
        num_slots: One for every batch that is under way at once.
        slot_bytes: Of the images of a batch.

    Raises:
        InputError: This machine, or this container, has too little shared memory.
    """

    def __init__(self, num_slots: int, slot_bytes: int) -> None:
        _check_shared_memory(num_slots * slot_bytes)
        memory = torch.empty((num_slots, slot_bytes), dtype=torch.uint8)
        with shared_memory_errors():
            memory.share_memory_()  # type: ignore[no-untyped-call]
        self._memory = memory
        self._free = deque(range(num_slots))

    def take(self) -> int | None:
        """Choose a slot that nobody uses; None if there is none."""
        return self._free.popleft() if self._free else None

    def give_back(self, slot: int) -> None:
        """Let a slot be written to again."""
        self._free.append(slot)

    def room(self, slot: int) -> np.ndarray:
        """Give a slot's memory: ``(slot_bytes,)`` uint8."""
        room: np.ndarray = self._memory[slot].numpy()
        return room

    def images(self, left: SlotImages) -> np.ndarray:
        """Look at what was left in a slot."""
        return _view(self.room(left.slot), left.shape, left.dtype)


@contextmanager
def shared_memory_errors() -> Iterator[None]:
    """Say what to do where torch finds too little shared memory, or a worker dies of it."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        text = str(error)
        signs = ("Bus error", "shared memory", "<torch_", os.strerror(errno.ENOSPC))
        if isinstance(error, CurationError) or not any(sign in text for sign in signs):
            raise
        raise InputError(f"{SHARED_MEMORY}: {text}; {MORE_SHARED_MEMORY}") from error


def _check_shared_memory(num_bytes: int) -> None:
    if not SHARED_MEMORY.is_dir():  # macOS has none to look at
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if num_bytes > free:
        raise InputError(
            f"{SHARED_MEMORY} has {free >> 20} MB free, and the batches under way take "
            f"{-(-num_bytes >> 20)} MB; {MORE_SHARED_MEMORY}"
        )


def _unlike(first: np.ndarray, other: Any) -> InputError:
    is_array = isinstance(other, np.ndarray | torch.Tensor)
    found = f"{tuple(other.shape)} of {other.dtype}" if is_array else type(other).__name__
    return InputError(
        f"images of one batch differ: {first.shape} of {first.dtype}, and {found}; give an "
        "img_preproc that makes them alike"
    )


def _view(room: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """See the beginning of ``(n,)`` uint8 as an array; it has to be large enough."""
    return room[: prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
