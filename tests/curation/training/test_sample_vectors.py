"""Folders of vectors: which files count. Reading is tested through the dataset."""

from pathlib import Path

import pytest

from curation.errors import InputError
from curation.storage import LocalStorage
from curation.training.sample_vectors import vector_files


def test_numbered_npy_files_are_grouped_by_prefix(tmp_path: Path) -> None:
    names = ["img_emb_0.npy", "img_emb_10.npy", "text_emb_2.npy", "mean.npy", "3.txt"]
    for name in names:
        (tmp_path / name).touch()
    found = vector_files(LocalStorage(tmp_path))
    assert {prefix: list(files) for prefix, files in found.items()} == {
        "img_emb_": [0, 10],
        "text_emb_": [2],
    }


def test_two_files_of_one_number_are_an_error(tmp_path: Path) -> None:
    for name in ("img_emb_1.npy", "img_emb_01.npy"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="both of shard 1"):
        vector_files(LocalStorage(tmp_path))
