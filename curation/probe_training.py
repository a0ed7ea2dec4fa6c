"""Step: labelled embeddings to a linear probe, with an honest account of how good it is.

Belongs here: finding the labelled rows by key, training, validation, calibration and the
file. How a probe scores belongs in ``classifiers/linear_probe.py``.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curation.classifiers.linear_probe import FORMAT, METADATA_KEY
from curation.errors import InputError, TableError
from curation.fingerprint import Json
from curation.key_list import unreadable
from curation.storage import LocalStorage
from curation.tables import EMBEDDING, embedding_matrix, table_about

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

log = logging.getLogger(__name__)

Labels = Mapping[str, Mapping[str, bool]]
"""Whether a sample has the label: by shard, by key."""


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained."""

    strengths: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0)
    """Inverse strengths of L2 regularisation to choose from, by log loss on held-out
    folds. Rows of unit length need weak regularisation: the best is mostly 10 or 100."""
    folds: int = 5
    """Parts that the examples are split into; each is held out once."""
    seed: int = 0
    """Decides the folds."""

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0:
            raise InputError(f"strengths must be numbers above 0; found {self.strengths}")
        if self.folds < 2:
            raise InputError(f"folds must be 2 or more; found {self.folds}")


@dataclass(frozen=True)
class Examples:
    """Labelled embeddings."""

    vectors: np.ndarray
    """``(N, dim)`` float32, rows of unit length."""
    labels: np.ndarray
    """``(N,)`` bool."""
    names: tuple[tuple[str, str], ...]
    """Shard and key of each row."""
    num_without_vector: int
    """Labelled samples that could not be used: their vector is missing, zero or not
    finite."""


@dataclass(frozen=True)
class Probe:
    """A trained probe."""

    weight: np.ndarray
    """``(dim,)`` float32; the score is ``sigmoid(weight @ row + bias)``."""
    bias: float
    encoder: Mapping[str, Json]
    """What the embeddings say of the encoder that made them."""
    metrics: Mapping[str, float]
    """On held-out folds: ``roc_auc``, ``average_precision``, ``balanced_accuracy`` at
    0.5, ``brier`` (mean squared error of the probability, classes weighted alike); and
    ``num_positive``, ``num_negative``, ``strength``."""
    settings: ProbeSettings
    keys: Mapping[str, Mapping[str, Sequence[str]]]
    """``positive`` and ``negative``: the keys that it was trained with, by shard."""


CHANCE, WEAK = 0.5, 0.8
"""Areas under the ROC curve: of a coin, and below which a probe tells little."""


def probe_warning(metrics: Mapping[str, float]) -> str | None:
    """Say why a probe should not be used as it is; None if it may be.

    The area under the ROC curve counts, with its 95% confidence interval.

    Args:
        metrics: Of a :class:`Probe`.

    Source: Hanley and McNeil, The meaning and use of the area under a receiver operating
    characteristic (ROC) curve (1982), equation 2.
    """
    area = metrics["roc_auc"]
    positive, negative = metrics["num_positive"], metrics["num_negative"]
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positive - 1) * (one - area**2)
    spread += (negative - 1) * (two - area**2)
    least = area - 1.96 * (max(spread, 0) / (positive * negative)) ** 0.5
    told = f"ROC AUC {area:.3f}, for certain (95%) {least:.3f} or more; {CHANCE} is chance"
    if least <= CHANCE:
        return (
            f"it can't be told from chance ({told}): label more samples, or the embeddings "
            "don't show what the label means"
        )
    if area < WEAK:
        return f"it tells the two kinds apart weakly ({told}): label more samples"
    return None


def find_examples(tables: Mapping[str, pa.Table], labels: Labels) -> Examples:
    """Find the embeddings of labelled samples, by shard and key.

    Args:
        tables: ``key`` and ``image_embedding`` of the embeddings tables, by shard.
        labels: What people said of some of their samples.

    Raises:
        InputError: A labelled shard or key is not there, or there is no label at all.
        TableError: Two of the tables were made by different encoders.
    """
    _check_shards(tables, labels)
    vectors, truths, names, without = [], [], [], 0
    for shard, by_key in sorted(labels.items()):
        rows, _ = embedding_matrix(tables[shard][EMBEDDING])
        place: dict[str, int] = {}
        for row, key in enumerate(tables[shard]["key"].to_pylist()):
            place.setdefault(key, row)
        for key, truth in sorted(by_key.items()):
            if key not in place:
                raise InputError(f"labels name {key!r}, which shard {shard!r} has not")
            row = rows[place[key]]
            if not (np.isfinite(row).all() and row.any()):
                without += 1
                continue
            vectors.append(row)
            truths.append(truth)
            names.append((shard, key))
    if without:
        log.warning("%d labelled samples have no vector and are left out", without)
    matrix = np.array(vectors, np.float32).reshape(len(names), rows.shape[1])
    return Examples(matrix, np.array(truths, bool), tuple(names), without)


def train_probe(
    examples: Examples,
    encoder: Mapping[str, Json],
    settings: ProbeSettings | None = None,
) -> Probe:
    """Train a linear probe.

    Logistic regression with both classes weighing the same whatever their sizes. The
    regularisation is the one with the lowest log loss on held-out folds; what the folds'
    models say of the examples they did not see gives the metrics, and calibrates the
    probability (Platt scaling). The score is the probability that a sample has the label
    if half of all samples had it: 0.5 is the natural threshold whatever the mix of
    examples was. The same examples give the same probe.

    Args:
        examples: At least two per fold with the label and two per fold without.
        encoder: What made the embeddings.
        settings: How to train.

    Raises:
        InputError: There are too few examples of a class.

    Source: Platt, Probabilistic outputs for support vector machines (1999); Alain and
    Bengio, Understanding intermediate layers using linear classifier probes (2016).
    """
    settings = settings or ProbeSettings()
    x, y = examples.vectors, examples.labels
    _check_enough(y, settings)
    held_out = {c: _held_out_logits(x, y, c, settings) for c in settings.strengths}
    strength = min(held_out, key=lambda c: _log_loss(held_out[c], y))
    logits = held_out[strength]
    slope, offset = _scaling(logits, y)
    model = _model(strength).fit(x, y)
    return Probe(
        weight=(slope * model.coef_[0]).astype(np.float32),
        bias=slope * float(model.intercept_[0]) + offset,
        encoder=encoder,
        metrics=_metrics(slope * logits + offset, y) | {"strength": strength},
        settings=settings,
        keys=_keys(examples),
    )


def save_probe(probe: Probe, path: str | Path) -> None:
    """Write a probe to a safetensors file, whole or not at all.

    The same probe gives the same bytes.
    """
    from safetensors.numpy import save

    about = {
        "format": FORMAT,
        "encoder": probe.encoder,
        "metrics": probe.metrics,
        "settings": asdict(probe.settings),
        "keys": probe.keys,
    }
    # one entry: safetensors writes several in any order, and the file's hash must not vary
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True)}
    tensors = {"weight": probe.weight, "bias": np.array([probe.bias], np.float32)}
    file = Path(path).absolute()
    data = save(tensors, metadata)
    LocalStorage(file.parent).write(file.name, data)


def read_labels(path: str | Path) -> Labels:
    """Read labels from CSV or Parquet with the columns ``shard``, ``key`` and ``label``.

    A label is true or false, 1 or 0, in any case.

    Raises:
        InputError: There is no such file or it can't be read, a column is missing, a
            label is no label, or a sample has two.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: there is no such file of labels")
    labels: dict[str, dict[str, bool]] = {}
    for shard, key, label in _label_rows(file):
        if shard is None or key is None:
            raise InputError(f"{file}: a row names no sample: shard {shard}, key {key}")
        truth = _TRUTHS.get(str(label).lower())
        if truth is None:
            raise InputError(f"{file}: {shard}, {key}: {label!r} is no label; use 1 or 0")
        if labels.setdefault(shard, {}).setdefault(key, truth) != truth:
            raise InputError(f"{file}: {shard}, {key} is labelled both ways")
    return labels


_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _label_rows(file: Path) -> Iterator[tuple[str, str, object]]:
    import polars as pl

    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
        else:  # keys such as 000001 are texts
            frame = pl.read_csv(file, infer_schema=False)
    except unreadable() as error:
        raise InputError(f"{file}: labels that can't be read: {error}") from error
    missing = {"shard", "key", "label"} - set(frame.columns)
    if missing:
        found = ", ".join(frame.columns)
        raise InputError(f"{file}: expected columns shard, key and label; found {found}")
    names = pl.col("shard", "key").cast(pl.String)
    yield from frame.select(names, "label").iter_rows()


def _check_shards(tables: Mapping[str, pa.Table], labels: Labels) -> None:
    """Refuse labels of unknown shards, and shards of different encoders."""
    if not labels:
        raise InputError("there are no labels; a probe is trained on labelled samples")
    for shard in labels:
        if shard not in tables:
            raise InputError(f"labels name shard {shard!r}, which has no embeddings")
    first, *others = labels
    for shard in others:
        found, wanted = _origin(tables[shard]), _origin(tables[first])
        if found != wanted:
            raise TableError(
                f"shards {first!r} and {shard!r} were embedded by different encoders, "
                f"{wanted} and {found}; embed both with one"
            )


def _origin(table: pa.Table) -> str:
    """Say what a table's vectors are: of which encoder, if it knows, and how wide."""
    return f"{table_about(table).get('encoder')}, {table[EMBEDDING].type}"


def _check_enough(labels: np.ndarray, settings: ProbeSettings) -> None:
    needed = 2 * settings.folds
    positive = int(labels.sum())
    negative = len(labels) - positive
    if min(positive, negative) < needed:
        raise InputError(
            f"a probe needs {needed} examples with the label and {needed} without; found "
            f"{positive} and {negative}: label more samples"
        )


def _model(strength: float) -> "LogisticRegression":
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)


def _held_out_logits(
    x: np.ndarray, y: np.ndarray, strength: float, settings: ProbeSettings
) -> np.ndarray:
    """Give each example's logit by the model that did not see it."""
    from sklearn.model_selection import StratifiedKFold

    logits = np.empty(len(y))
    folds = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for seen, unseen in folds.split(x, y):
        logits[unseen] = _model(strength).fit(x[seen], y[seen]).decision_function(x[unseen])
    return logits


def _scaling(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Find slope and offset that turn logits into logits of calibrated probabilities.

    As Platt, targets are not quite 0 and 1: each example counts a little as one of the
    other class, or perfectly separated examples would have infinite slope.
    """
    from sklearn.linear_model import LogisticRegression

    targets = np.where(y, 1 - 1 / (y.sum() + 2), 1 / ((~y).sum() + 2))
    weights = _balanced_weights(y)
    scaling = LogisticRegression(C=1e6).fit(
        np.concatenate([logits, logits])[:, None],
        np.repeat([True, False], len(y)),
        np.concatenate([weights * targets, weights * (1 - targets)]),
    )
    return float(scaling.coef_[0, 0]), float(scaling.intercept_[0])


def _balanced_weights(y: np.ndarray) -> np.ndarray:
    """Weigh examples so that both classes weigh the same."""
    weights: np.ndarray = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    return weights


def _log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    losses = np.logaddexp(0, np.where(y, -logits, logits))
    return float(np.average(losses, weights=_balanced_weights(y)))


def _metrics(logits: np.ndarray, y: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import (
        average_precision_score,
        balanced_accuracy_score,
        roc_auc_score,
    )

    probability = 1 / (1 + np.exp(-logits))
    squares = (probability - y) ** 2
    return {
        "roc_auc": float(roc_auc_score(y, logits)),
        "average_precision": float(average_precision_score(y, logits)),
        "balanced_accuracy": float(balanced_accuracy_score(y, logits >= 0)),
        "brier": float(np.average(squares, weights=_balanced_weights(y))),
        "num_positive": int(y.sum()),
        "num_negative": int((~y).sum()),
    }


def _keys(examples: Examples) -> dict[str, dict[str, list[str]]]:
    keys: dict[str, dict[str, list[str]]] = {"positive": {}, "negative": {}}
    for (shard, key), label in zip(examples.names, examples.labels, strict=True):
        keys["positive" if label else "negative"].setdefault(shard, []).append(key)
    return keys
