"""The demo: raw shards with planted truth, curated from end to end, then compared.

Belongs here: the order of the demo's steps. How the shards are made belongs in
``curation/ingest/demo.py``, what runs in ``jobs/curate.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.classifiers import make_classifier
from curation.errors import InputError
from curation.ingest.demo import (
    DemoDataset,
    compare_with_planted,
    make_demo_dataset,
    read_planted,
)
from curation.probe_training import Labels, save_probe
from curation.recipe import Recipe
from curation.storage import open_storage
from curation.tables import EMBEDDINGS, SELECTION, read_table
from curation_assets.lineage import Lineage
from jobs.curate import CurateResult, curate
from jobs.probe import balanced_accuracy, find_labelled, train
from resources.progress import Progress

PROBE = "sharpness_probe"


@dataclass(frozen=True)
class DemoResult:
    """What the demo did, and how it fares against what was planted."""

    dataset: DemoDataset
    runs: CurateResult
    probe_accuracy: float
    """Balanced accuracy of the probe on shards that it was not trained on."""
    num_test_labels: int
    comparison: pa.Table
    """What :func:`curation.ingest.demo.compare_with_planted` gives."""

    @property
    def is_as_planted(self) -> bool:
        """Whether every planted sample became what it should."""
        planted, right = self.comparison["planted"], self.comparison["as_expected"]
        return bool(planted.to_pylist() == right.to_pylist())


def run_demo(recipe: Recipe, progress: Progress, tell: Callable[[str], None]) -> DemoResult:
    """Make the demo dataset and curate it; what is done already is not done again.

    Args:
        recipe: Of the demo: its source is where the dataset is made, and it has a
            classifier ``sharpness_probe``, whose weights are trained here.
        progress: Is told of the shards.
        tell: Is told what comes next, a line each.

    Raises:
        InputError: The recipe is another one, or its source holds other tars.
        CurationError: As :func:`jobs.curate.curate`.
    """
    probe_file = _probe_file(recipe)
    source = open_storage(recipe.source, recipe.s3)
    tell(f"1. Raw shards with planted flaws in {source.url}")
    dataset = make_demo_dataset(source)
    planted = read_planted(source)
    tell("2. Index and embed every image")
    runs = curate(recipe, progress, until="embeddings")
    if runs.num_runs or not probe_file.is_file():
        tell(f"3. Train {PROBE} on labelled samples of half of the shards")
        save_probe(train(recipe, _labels(planted, "train")), probe_file)
    else:
        tell(f"3. {PROBE} is trained")
    tell("4. Score, compare, decide, and write the filtered shards")
    rest = curate(recipe, progress)
    accuracy, num_labels = _test_accuracy(recipe, planted, probe_file)
    return DemoResult(
        dataset=dataset,
        runs=runs + rest,
        probe_accuracy=accuracy,
        num_test_labels=num_labels,
        comparison=compare_with_planted(planted, find_outcomes(recipe, dataset.shards)),
    )


def find_outcomes(recipe: Recipe, shards: tuple[str, ...]) -> pa.Table:
    """Tell what became of every sample: ``shard``, ``key`` and ``outcome``."""
    output, artifacts = open_storage(recipe.output, recipe.s3), Lineage(recipe).artifacts
    found = []
    for shard in shards:
        selection = read_table(output, artifacts.selection(shard), SELECTION)
        facts = read_table(
            output, artifacts.embeddings(shard), EMBEDDINGS, ["key", "error"]
        )
        quarantined = set(facts.filter(facts["error"].is_valid())["key"].to_pylist())
        for key, kept in zip(
            selection["key"].to_pylist(), selection["kept"].to_pylist(), strict=True
        ):
            outcome = "quarantined" if key in quarantined else "kept" if kept else "dropped"
            found.append({"shard": shard, "key": key, "outcome": outcome})
    return pa.Table.from_pylist(found)


def _probe_file(recipe: Recipe) -> Path:
    settings = recipe.classifiers.get(PROBE)
    if settings is None or "weights" not in settings:
        raise InputError(
            f"the demo needs a recipe with a classifier {PROBE}, as the recipe.yaml of "
            "this project has; use that one, and `curate run` for your own data"
        )
    return Path(settings["weights"])


def _labels(planted: pa.Table, split: str) -> Labels:
    """Give the labels of a split, by shard and key: whether the image is sharp."""
    labels: dict[str, dict[str, bool]] = {}
    for row in planted.select(["shard", "key", "sharpness_label", "split"]).to_pylist():
        if row["split"] == split:
            by_key = labels.setdefault(row["shard"], {})
            by_key[row["key"]] = row["sharpness_label"] == "sharp"
    return labels


def _test_accuracy(
    recipe: Recipe, planted: pa.Table, probe_file: Path
) -> tuple[float, int]:
    examples = find_labelled(recipe, _labels(planted, "test")).examples
    probe = make_classifier("linear_probe", weights=str(probe_file))
    scores = probe.score(examples.vectors.astype(np.float16))
    return balanced_accuracy(scores, examples.labels.tolist()), len(examples.names)
