"""How the numbers of a release's samples are spread, for its data card."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.release.manifest import Manifest, table_path
from curation.storage.base import Storage
from curation.tables import FILTERED, read_table

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
FACTS = ("width", "height", "image_bytes")


@dataclass(frozen=True)
class Distributions:
    """What the tables of a release amount to."""

    quantiles: Mapping[str, tuple[float, ...]]
    """Column to its values at ``QUANTILES``; columns without a value are left out."""
    formats: Mapping[str, int]
    """Format of the image to the number of samples, the most frequent first."""


def read_distributions(output: Storage, manifest: Manifest) -> Distributions:
    """Read the facts and scores of all samples of a release.

    Raises:
        NotFoundError: One of its tables is gone.
        TableError: One of them can't be read.
    """
    names = [*FACTS, *manifest.recipe.get("classifiers", {})]
    tables = [
        read_table(output, table_path(manifest, shard), FILTERED, [*names, "format"])
        for shard in manifest.shards
    ]
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    quantiles = {}
    for name in names:
        values = table[name].drop_null().to_numpy().astype(np.float64)
        if len(values):
            quantiles[name] = tuple(np.quantile(values, QUANTILES).tolist())
    counts = pc.value_counts(table["format"]).to_pylist()
    counts.sort(key=lambda count: (-count["counts"], str(count["values"])))
    formats = {str(count["values"] or "none"): count["counts"] for count in counts}
    return Distributions(quantiles, formats)
