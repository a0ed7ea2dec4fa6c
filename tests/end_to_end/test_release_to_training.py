"""What the README says of training runs as it stands there, on a release of the demo's."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.storage import LocalStorage
from curation.tables import EMBEDDING, FILTERED, embedding_matrix, read_table
from jobs.cli import main
from tests.conftest import ROOT, Curated

pytestmark = pytest.mark.slow


@pytest.fixture
def release(curated: Curated, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish the filtered shards, and export them, in the folder that is worked in."""
    folder = curated.folder
    curate("release", "--recipe", curated.recipe_file)
    made = folder / "curated" / "releases" / "small-0001"
    curate("export", "clip-retrieval", folder / "parts", "--shards-folder", made)
    made.rename(made.with_name("mine-0001"))
    monkeypatch.chdir(folder)
    return made.with_name("mine-0001")


def curate(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code in (0, None)


def shown(call: str, collect: str) -> Callable[[dict[str, Any]], None]:
    """Find the README's code with a call, its loop's body replaced by what collects."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if f"= {call}(" in block)
    return lambda names: exec(code.replace(": ...", f": {collect}"), names)


def vectors_of(release: Path) -> np.ndarray:
    storage = LocalStorage(release)
    tables = [
        read_table(storage, file.path, FILTERED)
        for file in storage.list_files(suffix=".parquet")
    ]
    vectors = [embedding_matrix(table[EMBEDDING])[0] for table in tables]
    return np.concatenate(vectors).astype(np.float32)


def test_a_decoder_sees_every_sample_of_the_release_with_its_vector(release: Path) -> None:
    names: dict[str, Any] = {"seen": []}
    shown("create_image_embedding_dataloader", "seen.append((images, embeddings))")(names)
    images, embeddings = (torch.cat(parts) for parts in zip(*names["seen"], strict=True))
    assert images.shape == (len(embeddings), 3, 256, 256)
    np.testing.assert_array_equal(embeddings.numpy(), vectors_of(release))


def test_a_prior_sees_the_vectors_of_the_release_with_their_captions(release: Path) -> None:
    names: dict[str, Any] = {"seen": []}
    shown("make_splits", "seen.append((embeddings, tokens))")(names)
    embeddings, tokens = (torch.cat(parts) for parts in zip(*names["seen"], strict=True))
    expected = vectors_of(release)
    assert tokens.shape == (len(embeddings), 77)
    assert len(embeddings) == int(0.8 * len(expected))
    np.testing.assert_array_equal(embeddings.numpy(), expected[: len(embeddings)])
