"""LAION's heads are read from any container, and understand OpenAI's models alone."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from curation.classifiers.laion import ENCODERS, encoder_need, read_head
from curation.errors import DataError, UnknownNameError

SHAPES = {"w": (2, 3), "b": (2,)}


@pytest.fixture
def head() -> dict[str, torch.Tensor]:
    return {"w": torch.randn(2, 3), "b": torch.randn(2)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_head_is_the_same_from_any_container(
    head: dict[str, torch.Tensor], suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"head{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(head, file)
    found = read_head(file, SHAPES)
    assert found["w"].dtype == np.float64
    np.testing.assert_array_equal(found["w"], head["w"].numpy())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_refused(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"head{suffix}"
    for data in (b"", b"<html>not found</html>", b"\x80\x04garbage", bytes(100)):
        file.write_bytes(data)
        with pytest.raises(DataError, match=f"head\\{suffix}"):
            read_head(file, SHAPES)


def test_a_missing_tensor_is_named_with_those_that_are_there(
    head: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "head.safetensors"
    save_file({"w": head["w"]}, file)
    with pytest.raises(
        DataError, match=r"expected b of shape \(2,\); found .*'w': \(2, 3\)"
    ):
        read_head(file, SHAPES)


@pytest.mark.parametrize("model", ENCODERS)
def test_the_encoders_are_models_of_timm_with_that_width(model: str) -> None:
    need = encoder_need(model)
    name = need.models[0]
    assert name in timm.list_pretrained(name.replace(".openai", ".*"))
    assert timm.get_pretrained_cfg(name).num_classes == need.dim


def test_the_same_weights_without_quickgelu_are_refused() -> None:
    need = encoder_need("vit_l_14")
    assert need.fault({"model": need.models[0]}) is None
    fault = need.fault({"model": "vit_large_patch14_clip_224.openai"})
    assert fault is not None and "quickgelu" in fault


def test_a_model_without_heads_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="vit_l_14"):
        encoder_need("vit_g_14")
