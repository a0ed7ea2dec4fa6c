"""Where a model's weights come from, and whether they are its own.

A source is ``hub`` (what timm publishes), a ``.safetensors``, ``.pth`` or ``.pt`` file, or
``package:<name>`` for the one such file that an installed Python distribution carries.
Nothing is ever unpickled: ``.pth`` files are read with ``weights_only=True``.
"""

import hashlib
import importlib.metadata
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import DataError, InputError, NotFoundError

if TYPE_CHECKING:
    import torch

StateDict = Mapping[str, "torch.Tensor"]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # as timm looks
_LISTED = 3  # mismatching tensors that an error names

THREE_WAYS = (
    "weights: hub (timm's published weights, needs the network), weights: "
    "<file>.safetensors or .pth, or weights: package:<name> for an installed package "
    "that carries them"
)


def weights_file(source: str) -> Path | None:
    """Find the local file of a source; None for ``hub``.

    Raises:
        InputError: The source is of no known kind, or the package is not installed or
            carries no weights.
        NotFoundError: There is no such file.
    """
    if source == "hub":
        return None
    if source.startswith("package:"):
        return _packaged(source.removeprefix("package:"))
    file = Path(source)
    if file.suffix not in _SUFFIXES:
        raise InputError(
            f"weights: {source!r} names no source of weights; use {THREE_WAYS}"
        )
    if not file.is_file():
        raise NotFoundError(f"weights: {file}: there is no such file")
    return file


def read_weights(file: Path) -> dict[str, "torch.Tensor"]:
    """Read a state dict, on the CPU.

    Raises:
        DataError: The file holds none, or holds more than tensors.
    """
    try:
        content = _parsed(file)
    except OSError:
        raise
    except Exception as error:  # of damaged bytes, torch's reader raises nearly anything
        raise DataError(
            f"{file}: not a file of weights that can be read: {error}"
        ) from error
    return _unwrapped(content, file)


def fitted_weights(
    model: "torch.nn.Module", weights: StateDict, where: str, *, by_order: bool
) -> StateDict:
    """Give the weights under the model's own names.

    Args:
        model: Whose they shall be.
        weights: Names to tensors.
        where: What to call the weights in an error.
        by_order: Where the names are other ones, match tensors by their order. Right for
            the same architecture written down by someone else, and wrong for anything
            that only happens to have the same shapes.

    Raises:
        InputError: They are of another architecture; the first tensors that don't fit
            are named.
    """
    wanted = model.state_dict()
    if by_order and wanted.keys() != weights.keys() and _same_shapes(wanted, weights):
        return dict(zip(wanted, weights.values(), strict=True))
    faults = [
        f"{name} is missing"
        if name not in weights
        else f"{name} is {_shape(weights[name])}, the model's is {_shape(wanted[name])}"
        for name in wanted
        if name not in weights or weights[name].shape != wanted[name].shape
    ]
    faults += [f"{name} is not in the model" for name in weights if name not in wanted]
    if faults:
        more = f" … {len(faults)} in all" if len(faults) > _LISTED else ""
        raise InputError(
            f"{where}: these weights are of another architecture: "
            f"{'; '.join(faults[:_LISTED])}{more}. Name the model they belong to."
        )
    return weights


def state_sha256(weights: StateDict) -> str:
    """Hash names, types, shapes and values of all tensors, to 64 hex digits."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {_shape(tensor)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parsed(file: Path) -> object:
    import torch

    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles that torch did not write itself
        return torch.load(file, map_location="cpu", weights_only=True)


def _packaged(name: str) -> Path:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"weights: the package {name!r} is not installed; install it, or use "
            f"{THREE_WAYS}"
        ) from error
    found = [file for file in files if file.suffix in _SUFFIXES]
    if len(found) != 1:
        raise InputError(
            f"weights: expected one file of weights in the package {name!r}, found "
            f"{len(found)}: {', '.join(map(str, found)) or 'none'}; name the file itself"
        )
    return Path(str(found[0].locate()))


def _unwrapped(content: object, file: Path) -> dict[str, "torch.Tensor"]:
    import torch

    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise DataError(
            f"{file}: expected names and tensors, found {type(content).__name__}"
        )
    found = {name.removeprefix("module."): value for name, value in content.items()}
    others = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise DataError(f"{file}: expected only tensors, but {others[0]} is none")
    return found


def _same_shapes(left: StateDict, right: StateDict) -> bool:
    return [t.shape for t in left.values()] == [t.shape for t in right.values()]


def _shape(tensor: "torch.Tensor") -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
