"""Samples: a key, where its components lie in the shard, and their bytes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Component:
    """Where one file of a sample lies in its shard."""

    extension: str
    """All after the first dot of the base name, as written: ``jpg``, ``seg.png``."""
    start: int
    """First byte of the file's data in the shard; a multiple of 512."""
    size: int
    """Length of the data in bytes, without padding."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample with the bytes of its components."""

    key: str
    components: tuple[Component, ...]
    """In the order of the tar, extensions unique."""
    contents: Mapping[str, bytes]
    """Extension to bytes, for the components that were asked for."""
