"""Make ``curation/classifiers/nsfw_vocabularies.safetensors`` from what LAION published.

    python tests/data/make_nsfw_vocabularies.py FOLDER_WITH_BOTH_ZIPS

The vocabularies are constants of TensorFlow's graph in ``saved_model.pb``: for each
looked-up column one tensor of strings (values with six decimals) and one of int64 (1, 2,
3 …), in the order of the columns. Protocol buffers are read by their wire format, so that
TensorFlow isn't needed.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from curation.classifiers.nsfw import LOOKED_UP, SOURCES, VOCABULARIES

DT_STRING = 7
META_GRAPHS, GRAPH_DEF, NODE, OP, ATTRIBUTE, VALUE, TENSOR = 2, 2, 1, 2, 5, 2, 8


def varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7


def parts(data: bytes, number: int) -> Iterator[bytes | int]:
    """Give the values of one field of a message."""
    start = 0
    while start < len(data):
        key, start = varint(data, start)
        if key & 7 == 0:
            value, start = varint(data, start)
        else:
            size, start = (
                varint(data, start) if key & 7 == 2 else (4 if key & 7 == 5 else 8, start)
            )
            value, start = data[start : start + size], start + size
        if key >> 3 == number:
            yield value


def vocabularies(saved_model: bytes) -> Iterator[list[bytes]]:
    """Give the constants that are long lists of strings, in order."""
    graph = next(parts(next(parts(saved_model, META_GRAPHS)), GRAPH_DEF))
    for node in parts(graph, NODE):
        if next(parts(node, OP)) != b"Const":
            continue
        for attribute in parts(node, ATTRIBUTE):
            if next(parts(attribute, 1)) != b"value":
                continue
            tensor = next(parts(next(parts(attribute, VALUE)), TENSOR))
            words = list(parts(tensor, 8))
            if next(parts(tensor, 1)) == DT_STRING and len(words) > 1:
                yield words


def main(folder: Path) -> None:
    tensors = {}
    for model, source in SOURCES.items():
        archive = zipfile.ZipFile(folder / source.name)
        saved_model = archive.read(f"{Path(source.name).stem}/saved_model.pb")
        for column, words in zip(LOOKED_UP[model], vocabularies(saved_model), strict=True):
            millionths = [round(float(word) * 1e6) for word in words]
            tensors[f"{model}.{column}"] = np.array(millionths, np.int32)
    save_file(tensors, VOCABULARIES)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
