"""Shards as everyone else's tools read them.

Each function has one program read a whole tar from a local file and gives all that it
found, so that tests can compare it with what was meant to be there.
"""

import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WDS2IDX = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""Environment for GNU tar, which ``wds2idx`` runs: elsewhere it escapes all but ASCII."""


def read_with_webdataset(tar: Path) -> dict[str, dict[str, bytes]]:
    """Read a shard with ``webdataset``: key to extension to bytes, both in order."""
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file open
        samples = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
        return {
            sample["__key__"]: {k: v for k, v in sample.items() if not k.startswith("__")}
            for sample in samples
        }


def read_with_dali(tar: Path, idx: Path, extensions: Sequence[str]) -> list[list[bytes]]:
    """Read a shard with DALI by its index: per sample the bytes of each extension.

    A component that a sample doesn't have is empty: DALI can't tell them apart.
    """
    dali: Any = importlib.import_module("nvidia.dali")  # its types are those of graphs
    pipeline = dali.Pipeline(batch_size=1, num_threads=1, device_id=None)
    with pipeline:
        components = dali.fn.readers.webdataset(
            paths=[str(tar)],
            index_paths=[str(idx)],
            ext=list(extensions),
            missing_component_behavior="empty",
            name="reader",
        )
        pipeline.set_outputs(*components)
    pipeline.build()
    num_samples = pipeline.epoch_size("reader")
    outputs = (pipeline.run() for _ in range(num_samples))
    return [[bytes(part.at(0)) for part in batch] for batch in outputs]


def index_with_wds2idx(tar: Path) -> bytes:
    """Index a shard with DALI's ``wds2idx``."""
    idx = tar.with_suffix(".wds2idx")
    command = [Path(sys.executable).with_name("wds2idx"), tar, idx]
    environment = os.environ | WDS2IDX
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return idx.read_bytes()


def extract_with_gnu_tar(tar: Path, folder: Path) -> dict[str, bytes]:
    """Extract a shard with GNU tar: path to bytes."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xf", tar, "-C", folder], check=True)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
