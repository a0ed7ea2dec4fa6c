"""``curate keys``: a selection as a list that can be published and applied elsewhere."""

import io
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import pyarrow as pa
import typer

from curation.errors import InputError
from curation.filters.fields import field_text
from curation.key_list import UID, uid_array
from curation.recipe import load_recipe
from curation.storage import LocalStorage, open_storage
from curation.tables import to_polars
from curation_assets.current_tables import CurrentTables
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards
from jobs.console import print_json, print_result
from jobs.decide import decide
from jobs.options import JsonOption, RecipeOption


def keys(
    out: Annotated[
        Path,
        typer.Argument(
            help="`.parquet`: shard, key, sha256 and uid of every kept sample; `.npy`: "
            "DataComp's list of uids."
        ),
    ],
    recipe: RecipeOption = Path("recipe.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Write which samples the filter keeps, for `selected(…)` in a recipe elsewhere."""
    if out.suffix not in (".parquet", ".npy"):
        raise InputError(f"{out}: expected a file that ends in .parquet or .npy")
    settings = load_recipe(recipe)
    decided = decide(settings)
    kept = {
        shard: table["key"].filter(table["kept"]).to_pylist()
        for shard, table in decided.selections.items()
    }
    output = open_storage(settings.output, settings.s3)
    tars = list_shards(open_storage(settings.source, settings.s3))
    tables = CurrentTables(Lineage(settings), output, tars)
    columns = ["key", "sha256", "metadata"]
    listed = pl.concat(
        [
            _listed(shard, keys, tables.read("embeddings", shard, columns))
            for shard, keys in kept.items()
        ]
    )
    _write(listed, out)
    if as_json:
        print_json({"file": str(out), "samples": len(listed)})
    else:
        print_result(f"{len(listed):,} samples are listed in {out}")
    if decided.missing:
        print_result(f"{len(decided.missing)} shard(s) are not scored and compared yet")


def _listed(shard: str, keys: list[str], table: pa.Table) -> pl.DataFrame:
    uid = field_text(pl.col("metadata"), [UID]).alias(UID)
    facts = to_polars(table).filter(pl.col("key").is_in(keys))
    return facts.select(pl.lit(shard).alias("shard"), "key", "sha256", uid)


def _write(listed: pl.DataFrame, out: Path) -> None:
    file = io.BytesIO()
    if out.suffix == ".parquet":
        listed.write_parquet(file)
    else:
        without = listed[UID].null_count()
        if without:
            raise InputError(
                f"{out}: {without:,} of {len(listed):,} samples have no uid in their "
                ".json; write a .parquet, which has sha256 too"
            )
        np.save(file, uid_array(listed[UID].to_list()), allow_pickle=False)
    folder = LocalStorage(out.absolute().parent)
    folder.write(out.name, file.getbuffer())
