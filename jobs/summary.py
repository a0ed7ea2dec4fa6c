"""What a curated dataset amounts to: the funnel, the bytes, and where things are."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curation.filters import make_filter
from curation.funnel import Funnel, count_funnel
from curation.recipe import Recipe
from curation.storage import Storage, open_storage
from curation.tables import SELECTION, read_table
from curation.troubles import Trouble
from curation_assets.lineage import Lineage
from curation_assets.partitions import SUFFIX
from jobs.arrivals import find_arrivals
from jobs.instance import open_instance
from jobs.output_files import output_files
from jobs.plan import make_plan
from jobs.troubles import current_troubles


@dataclass(frozen=True)
class Summary:
    """The state of some shards under a recipe."""

    num_shards: int
    num_selected_shards: int
    """Those that were decided on, by this recipe as it is."""
    num_filtered_shards: int
    """Those of which the filtered shard holds what was decided."""
    funnel: Funnel
    raw_bytes: int
    filtered_bytes: int
    """Of those filtered shards."""
    filtered_folder: str
    troubles: tuple[Trouble, ...] = ()
    """What is wrong with these shards, the worst first."""

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def summarize(recipe: Recipe, shards: Sequence[str]) -> Summary:
    """Read what was decided about some shards, what came of it, and what is wrong.

    What is there, but was made by another filter or of another tar, does not count.
    """
    lineage = Lineage(recipe)
    output = open_storage(recipe.output, recipe.s3)
    with open_instance(recipe) as instance:
        arrivals = find_arrivals(instance, recipe)
        due = make_plan(
            instance, lineage, arrivals.versions, output_files(lineage, instance)
        ).due
        tars = {s: arrivals.tars[s] for s in shards if s in arrivals.tars}
        at_source = [t for t in arrivals.troubles if _concerns(t, shards, arrivals.tars)]
        troubles = current_troubles(recipe, tars, at_source, instance)
    selected = [s for s in shards if s in arrivals.versions and s not in due["selection"]]
    filtered = {s for s in selected if s not in due["filtered_shard"]}
    path, folder = lineage.artifacts.selection, lineage.artifacts.filtered_folder
    return Summary(
        num_shards=len(shards),
        num_selected_shards=len(selected),
        num_filtered_shards=len(filtered),
        funnel=count_funnel(
            (read_table(output, path(s), SELECTION) for s in selected),
            make_filter(recipe.filter),
        ),
        raw_bytes=sum(tar.size for tar in tars.values()),
        filtered_bytes=_tar_bytes(output, folder, filtered),
        filtered_folder=f"{output.url}/{folder}",
        troubles=tuple(troubles),
    )


def _concerns(trouble: Trouble, shards: Sequence[str], tars: Collection[str]) -> bool:
    """Tell whether a trouble at the source is one of some shards, or of all."""
    shard = trouble.shard.removesuffix(SUFFIX)
    return shard in shards if shard in tars else len(shards) >= len(tars)


def _tar_bytes(storage: Storage, folder: str, shards: set[str]) -> int:
    start = len(folder) + 1
    tars = storage.list_files(folder, suffix=".tar")
    return sum(tar.size for tar in tars if tar.path[start:-4] in shards)
