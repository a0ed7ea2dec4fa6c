"""A linear probe: one label that people gave to some samples, told of all the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from curation.classifiers.base import Classifier, EncoderNeed
from curation.classifiers.laion import checked_head
from curation.errors import DataError, NotFoundError
from curation.fingerprint import Json, file_sha256
from curation.texts import load_json

if TYPE_CHECKING:
    import torch

METADATA_KEY = "curation"
"""Under which the safetensors metadata says, in JSON, what the probe is."""
FORMAT = "linear probe 1"
"""What it says under ``format``."""


@dataclass(frozen=True)
class LinearProbe(Classifier):
    """The calibrated probability of a label, by logistic regression on embeddings.

    ``curation/probe_training.py`` makes the file: safetensors with ``weight (dim,)`` and
    ``bias (1,)`` float32, and in its metadata the encoder that it was trained on, how good
    it is, and the keys that it was trained with.
    """

    name: ClassVar[str] = "linear_probe"
    score_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    higher_is_better: ClassVar[bool] = True

    weights: str = ""
    """The probe's file."""

    @property
    def needs(self) -> EncoderNeed:
        encoder: Mapping[str, Json] = self.record["encoder"]
        return EncoderNeed(dim=int(str(encoder["dim"])), encoder=encoder)

    def check(self) -> None:
        super().check()
        _ = self._line

    def weights_sha256(self) -> Json:
        return file_sha256(self._file)

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """What the file says of itself.

        ``encoder``, ``metrics``, ``settings`` and ``keys`` (by label, by shard).

        Raises:
            NotFoundError: There is no such file.
            DataError: It is no probe.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file, framework="numpy") as file:
                metadata = file.metadata() or {}
            record = load_json(metadata.get(METADATA_KEY, "{}"))
        except (SafetensorError, ValueError) as error:
            raise DataError(f"{self._file}: not a probe's file: {error}") from error
        found = record.get("format") if isinstance(record, dict) else None
        if found != FORMAT:
            raise DataError(
                f"{self._file}: expected a {FORMAT}; found "
                f"{found or 'another kind of file'}; train one with `curate train-probe`"
            )
        encoder = record.get("encoder")
        if not (isinstance(encoder, dict) and isinstance(encoder.get("dim"), int)):
            raise DataError(f"{self._file}: does not say which encoder it was trained on")
        return dict(record)

    def score_block(
        self, rows: "torch.Tensor", _captions: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        weight, bias = self._line
        return (rows @ weight + bias).sigmoid_()

    @property
    def _file(self) -> Path:
        file = Path(self.weights)
        if not file.is_file():
            raise NotFoundError(
                f"weights: {self.weights or 'nothing'}: there is no such probe; train it "
                "with `curate train-probe`, or name its file"
            )
        return file

    @cached_property
    def _line(self) -> "tuple[torch.Tensor, float]":
        import torch
        from safetensors.numpy import load_file

        shapes = {"weight": (self.needs.dim or 0,), "bias": (1,)}
        head = checked_head(load_file(self._file), shapes, self._file)
        return torch.from_numpy(head["weight"]).float(), float(head["bias"][0])
