"""Captions have one vector each, in the order of their samples, or none for a reason."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.storage import LocalStorage
from curation.tables import (
    CAPTIONS,
    TEXT_EMBEDDING,
    embedding_matrix,
    read_table,
    table_about,
    write_table,
)
from curation.text_embedders import OpenClipTextEmbedder
from curation.text_embedding import embed_captions
from tests.curation.text_embedders.tiny_clip import DIM, NAME, TAG, TinyClip, make_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TinyClip:
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def embedder(clip: TinyClip) -> OpenClipTextEmbedder:
    return OpenClipTextEmbedder(NAME, TAG, str(clip.weights))


def facts(captions: Sequence[str | None], broken: Sequence[int] = ()) -> pa.Table:
    errors = ["no image" if row in broken else None for row in range(len(captions))]
    return pa.table(
        {
            "key": [f"k{row}" for row in range(len(captions))],
            "error": pa.array(errors, pa.string()),
            "caption": pa.array(captions, pa.string()),
        }
    )


def test_every_caption_has_the_vector_that_open_clip_gives_it(
    clip: TinyClip, embedder: OpenClipTextEmbedder
) -> None:
    captions = ["a dog", "a cat", "a dog", "<b>ein Hund</b>\n", "z", "a"]
    table = embed_captions(facts(captions), embedder)
    vectors, valid = embedding_matrix(table[TEXT_EMBEDDING])
    assert table["key"].to_pylist() == [f"k{row}" for row in range(6)]
    assert valid.all()
    expected = clip.text_vectors(captions).numpy()
    np.testing.assert_allclose(vectors.astype(np.float32), expected, rtol=0, atol=1e-3)


def test_without_a_caption_or_an_image_there_is_no_vector(
    embedder: OpenClipTextEmbedder,
) -> None:
    captions = ["a dog", None, "", " \t\n", "a dog", "a cat"]
    table = embed_captions(facts(captions, broken=[4]), embedder)
    assert table[TEXT_EMBEDDING].is_valid().to_pylist() == [True, *[False] * 4, True]


def test_equal_captions_are_computed_once(
    embedder: OpenClipTextEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    original = OpenClipTextEmbedder.embed

    def counted(self: OpenClipTextEmbedder, texts: Sequence[str]) -> np.ndarray:
        given.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(OpenClipTextEmbedder, "embed", counted)
    table = embed_captions(facts(["a dog", "a cat"] * 20), embedder)
    assert sorted(given) == ["a cat", "a dog"]
    vectors, _ = embedding_matrix(table[TEXT_EMBEDDING])
    assert len(np.unique(vectors, axis=0)) == 2


def test_a_shard_without_any_caption_is_fine(embedder: OpenClipTextEmbedder) -> None:
    for captions in ([], [None, ""]):
        table = embed_captions(facts(captions), embedder)
        assert table.num_rows == len(captions)
        assert table[TEXT_EMBEDDING].null_count == len(captions)
        assert table[TEXT_EMBEDDING].type.byte_width == 2 * DIM


def test_the_table_says_its_encoder_and_is_a_table_of_captions(
    embedder: OpenClipTextEmbedder, tmp_path: Path
) -> None:
    table = embed_captions(facts(["a dog", None]), embedder)
    assert table_about(table)["encoder"] == embedder.encoder()
    storage = LocalStorage(tmp_path)
    write_table(storage, "c.parquet", CAPTIONS, table, fingerprint="f")
    assert read_table(storage, "c.parquet", CAPTIONS).to_pydict() == table.to_pydict()
