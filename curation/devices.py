"""Which devices a run computes on, and that no other run has the same GPU.

A GPU is claimed with a lock on a file in the machine's temporary folder. The operating
system lets go of it when the process ends, however it ends.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from curation.errors import InputError

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # between looks for a GPU that became free


@contextmanager
def claim_devices(
    kind: Literal["cuda", "cpu", "auto"],
    count: int | None = None,
    *,
    shared: bool = False,
    lock_folder: Path | None = None,
) -> Iterator[tuple[str, ...]]:
    """Take devices for the length of a block: one worker process each.

    Args:
        kind: ``cuda`` takes GPUs; ``cpu`` takes cores; ``auto`` takes GPUs if the machine
            has any, else cores.
        count: How many. By default every GPU that no other run has, or every core that
            this process may use. Where all are taken, it waits for the first.
        shared: Use GPUs whether or not other runs do.
        lock_folder: Where the locks are; the same for all runs of a machine.

    Yields:
        ``cuda:0``, ``cuda:2`` …, or ``cpu`` as often as there are to be workers.

    Raises:
        InputError: ``cuda`` was asked for, and the machine has none, or fewer than
            ``count``.
    """
    gpus = usable_gpus(kind, count)
    if not gpus:
        yield ("cpu",) * (count or len(os.sched_getaffinity(0)))
        return
    if shared:
        yield tuple(f"cuda:{number}" for number in range(count or len(gpus)))
        return
    folder = lock_folder or Path(tempfile.gettempdir())
    with _Claims(gpus, folder) as claims:
        yield tuple(f"cuda:{number}" for number in claims.take(count))


def usable_gpus(
    kind: Literal["cuda", "cpu", "auto"], count: int | None = None
) -> list[str]:
    """Name the GPUs that a kind of device means here; none where it means cores.

    Args:
        kind: As :func:`claim_devices`.
        count: How many there must be if there are any.

    Raises:
        InputError: ``cuda`` was asked for, and the machine has none; or it has fewer than
            ``count``.
    """
    gpus = visible_gpus() if kind != "cpu" else []
    if kind == "cuda" and not gpus:
        raise InputError(
            "machine.device is cuda, and PyTorch finds no GPU here; set it to auto to use "
            "the CPU instead, or mend the driver"
        )
    if gpus and count is not None and count > len(gpus):
        raise InputError(f"machine.workers is {count}; this machine has {len(gpus)} GPUs")
    return gpus


def first_device(kind: Literal["cuda", "cpu", "auto"]) -> str:
    """Name the first device of a kind: ``cuda:0`` or ``cpu``.

    Raises:
        InputError: ``cuda`` was asked for, and the machine has none.
    """
    return "cuda:0" if usable_gpus(kind) else "cpu"


def visible_gpus() -> list[str]:
    """Name the GPUs that this process sees, in the order of ``cuda:0``, ``cuda:1`` …

    The names are the same in every process of the machine, whichever GPUs it sees, and
    finding them out leaves the GPUs alone.
    """
    import torch

    number = torch.cuda.device_count()
    chosen = [
        part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    ]
    return chosen[:number] if any(chosen) else [str(index) for index in range(number)]


def computes_bf16(device: str) -> bool:
    """Tell whether a device has instructions for bf16, so that it is worth computing in."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


class _Claims:
    """Locks on GPUs, held until the block ends."""

    def __init__(self, gpus: Sequence[str], folder: Path) -> None:
        self.gpus = gpus
        self.folder = folder
        self.held: dict[int, BinaryIO] = {}
        self._files = ExitStack()

    def __enter__(self) -> "_Claims":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def take(self, count: int | None) -> list[int]:
        self._look(count)
        while len(self.held) < (count or 1):
            log.info("all GPUs are taken by other runs; waiting for one")
            time.sleep(POLL_SECONDS)
            self._look(count)
        return sorted(self.held)

    def _look(self, count: int | None) -> None:
        for number, name in enumerate(self.gpus):
            if len(self.held) == count:
                return
            if number in self.held:
                continue
            file = _open_for_all(self.folder / f"curation-gpu-{name}.lock")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                self.held[number] = self._files.enter_context(file)


def _open_for_all(path: Path) -> BinaryIO:
    """Open a file that other users of the machine may open too."""
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except PermissionError:  # made by another user, whose umask forbids writing
        return open(path, "rb")
