"""What a curated dataset amounts to: the funnel, the bytes, and where things are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curation.errors import NotFoundError
from curation.funnel import Funnel, count_funnel
from curation.recipe import Recipe
from curation.storage import Storage, open_storage
from curation.tables import SELECTION, read_table
from curation_assets.lineage import Lineage


@dataclass(frozen=True)
class Summary:
    """The state of some shards under a recipe."""

    num_shards: int
    num_selected_shards: int
    """Those that were decided on."""
    funnel: Funnel
    raw_bytes: int
    filtered_bytes: int
    filtered_folder: str

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def summarize(recipe: Recipe, shards: Sequence[str]) -> Summary:
    """Read what was decided about some shards, and what came of it."""
    artifacts = Lineage(recipe).artifacts
    output = open_storage(recipe.output, recipe.s3)
    source = open_storage(recipe.source, recipe.s3)
    selections = []
    for shard in shards:
        try:
            selections.append(read_table(output, artifacts.selection(shard), SELECTION))
        except NotFoundError:  # not decided on yet
            continue
    wanted = set(shards)
    folder = artifacts.filtered_folder
    return Summary(
        num_shards=len(shards),
        num_selected_shards=len(selections),
        funnel=count_funnel(selections),
        raw_bytes=_tar_bytes(source, "", wanted),
        filtered_bytes=_tar_bytes(output, folder, wanted),
        filtered_folder=f"{output.url}/{folder}",
    )


def _tar_bytes(storage: Storage, folder: str, shards: set[str]) -> int:
    start = len(folder) + 1 if folder else 0
    tars = storage.list_files(folder, suffix=".tar")
    return sum(tar.size for tar in tars if tar.path[start:-4] in shards)
