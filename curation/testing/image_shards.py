"""Small real shards, made by ``tarfile``, and their samples read back by it."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping

from curation.samples import Component, Sample


def make_tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Write members to a tar, in order, as ``tarfile`` does by default."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_shard(images: Mapping[str, bytes], extension: str = "jpg") -> bytes:
    """Write a shard with a caption and metadata beside every image, by key."""
    members = []
    for key, data in images.items():
        members += [
            (f"{key}.{extension}", data),
            (f"{key}.txt", f"a picture of {key}".encode()),
            (f"{key}.json", json.dumps({"key": key}).encode()),
        ]
    return make_tar(members)


def tar_samples(tar: bytes) -> Iterator[Sample]:
    """Read the samples of a tar whose members lie sample by sample, by ``tarfile``."""
    key = ""
    parts: list[Component] = []
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        for member in file:
            stem, _, extension = member.name.partition(".")
            if stem != key and parts:
                yield Sample(key, tuple(parts), contents)
                parts, contents = [], {}
            key = stem
            parts.append(Component(extension, member.offset_data, member.size))
            reader = file.extractfile(member)
            assert reader is not None
            contents[extension] = reader.read()
    if parts:
        yield Sample(key, tuple(parts), contents)
