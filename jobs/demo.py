"""The demo: raw shards with planted truth, curated from end to end, then compared.

Belongs here: the order of the demo's steps. How the shards are made belongs in
``curation/ingest/demo.py``, what runs in ``jobs/curate.py``.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.classifiers import make_classifier
from curation.errors import InputError
from curation.ingest.demo import (
    DemoDataset,
    FoundCopies,
    compare_with_planted,
    count_found_copies,
    make_demo_dataset,
    read_planted,
)
from curation.ingest.demo_plan import SIMILARITY
from curation.probe_training import Labels, save_probe
from curation.recipe import Recipe
from curation.storage import open_storage
from curation.tables import DUPLICATES, EMBEDDINGS, SELECTION, read_table
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
    """What :func:`curation.ingest.demo.compare_with_planted` gives, and ``lost_to_probe``:
    good samples that nothing but the probe drops. Probes err; rules must not."""
    copies: FoundCopies
    example: str
    """The key of a planted copy, whose story has a twin in it."""

    @property
    def is_as_planted(self) -> bool:
        """Whether every planted sample became what it should, errors of models aside.

        That is what the probe takes for blurred, and near copies that are not alike
        enough; a sample that goes for one that it is no copy of is an error of a rule.
        """
        return all(
            row["planted"] == row["as_expected"] + row["lost_to_probe"]
            for row in self.comparison.to_pylist()
            if row["decided_by"] not in ("sharpness", SIMILARITY)
        )


def run_demo(
    recipe: Recipe,
    progress: Progress,
    tell: Callable[[str], None],
    *,
    num_shards: int = 8,
    samples_per_shard: int = 100,
) -> DemoResult:
    """Make the demo dataset and curate it; what is done already is not done again.

    Args:
        recipe: Of the demo: its source is where the dataset is made, and it has a
            classifier ``sharpness_probe``, whose weights are trained here.
        progress: Is told of the shards.
        tell: Is told what comes next, a line each.
        num_shards: Of the dataset.
        samples_per_shard: Of the dataset.

    Raises:
        InputError: The recipe is another one, or its source holds other tars.
        CurationError: As :func:`jobs.curate.curate`.
    """
    probe_file = _probe_file(recipe)
    source = open_storage(recipe.source, recipe.s3)
    tell(f"1. Raw shards with planted flaws in {source.url}")
    dataset = make_demo_dataset(
        source, num_shards=num_shards, samples_per_shard=samples_per_shard
    )
    planted = read_planted(source)
    tell("2. Index and embed every image")
    runs = curate(recipe, progress, until="embeddings")
    if runs.num_runs or not probe_file.is_file():
        tell(f"3. Train {PROBE} on labelled samples of half of the shards")
        save_probe(train(find_labelled(recipe, _labels(planted, "train"))), probe_file)
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
        example=planted.filter(pc.equal(planted["kind"], "exact_copy"))["key"][0].as_py(),
        comparison=_compare(planted, find_outcomes(recipe, dataset.shards)),
        copies=count_found_copies(planted, _removed_copies(recipe, dataset.shards)),
    )


def find_outcomes(recipe: Recipe, shards: tuple[str, ...]) -> pa.Table:
    """Tell what became of every sample: ``shard``, ``key``, ``outcome`` and ``reasons``."""
    output, artifacts = open_storage(recipe.output, recipe.s3), Lineage(recipe).artifacts
    found = []
    for shard in shards:
        selection = read_table(output, artifacts.selection(shard), SELECTION)
        facts = read_table(
            output, artifacts.embeddings(shard), EMBEDDINGS, ["key", "error"]
        )
        quarantined = set(facts.filter(facts["error"].is_valid())["key"].to_pylist())
        for row in selection.to_pylist():
            outcome = "kept" if row["kept"] else "dropped"
            if row["key"] in quarantined:
                outcome = "quarantined"
            found.append({"shard": shard, "outcome": outcome, **row})
    return pa.Table.from_pylist(found)


def _compare(planted: pa.Table, found: pa.Table) -> pa.Table:
    """Compare with the truth, and count per kind what only the probe took for bad."""
    comparison = compare_with_planted(planted, found)
    lost = {
        (row["shard"], row["key"])
        for row in found.to_pylist()
        if row["reasons"] and all(PROBE in reason for reason in row["reasons"])
    }
    kinds = Counter(
        row["kind"]
        for row in planted.select(["shard", "key", "kind", "expected"]).to_pylist()
        if row["expected"] == "kept" and (row["shard"], row["key"]) in lost
    )
    counts = [kinds[kind] for kind in comparison["kind"].to_pylist()]
    return comparison.append_column("lost_to_probe", pa.array(counts, pa.int64()))


def _removed_copies(recipe: Recipe, shards: tuple[str, ...]) -> pa.Table:
    """Read what was taken for copies, with a column ``shard``."""
    output, artifacts = open_storage(recipe.output, recipe.s3), Lineage(recipe).artifacts
    tables = []
    for shard in shards:
        table = read_table(output, artifacts.duplicates(shard), DUPLICATES)
        names = pa.array([shard] * table.num_rows, pa.string())
        tables.append(table.append_column("shard", names))
    return pa.concat_tables(tables)


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
