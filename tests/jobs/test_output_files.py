"""What is there of a recipe's artifacts, by name and by what it is made of."""

import os

from curation.verify import verify_shards
from curation_assets.lineage import Lineage
from jobs.curate import curate
from jobs.instance import open_instance
from jobs.output_files import output_files
from resources.progress import LineProgress
from tests.conftest import Curated


def test_a_table_of_something_else_is_not_there(curated: Curated) -> None:
    mine, other = (
        curated.artifacts.of("selection", shard)[-1] for shard in ("00000", "train/00001")
    )
    curated.output.copy(other, mine)
    lineage = Lineage(curated.recipe)
    with open_instance(curated.recipe) as instance:
        assert output_files(lineage) - output_files(lineage, instance) == {mine}


ASSETS = (
    "shard_index",
    "embeddings",
    "scores",
    "duplicates",
    "selection",
    "filtered_shard",
)


def test_an_artifact_that_was_cut_is_not_there_and_made_again(curated: Curated) -> None:
    """Every file of every asset of a shard, to nothing or by a few bytes, in turns."""
    paths = [path for asset in ASSETS for path in curated.artifacts.of(asset, "00000")]
    before = {path: curated.output.read(path) for path in paths}
    for number, path in enumerate(paths):
        place = curated.output.root / path
        os.truncate(place, place.stat().st_size - 7 if number % 2 else 0)
    lineage = Lineage(curated.recipe)
    with open_instance(curated.recipe) as instance:
        assert output_files(lineage, instance).isdisjoint(paths)
    assert curate(curated.recipe, LineProgress(print)).failed == {}
    assert {path: curated.output.read(path) for path in paths} == before
    assert verify_shards(curated.output).differences == ()


def test_a_file_that_is_whole_but_of_another_size_is_recorded_anew(
    curated: Curated,
) -> None:
    """As when another recipe tried the quarantined images of a table again."""
    path = curated.artifacts.embeddings("00000")
    place = curated.output.root / path
    data = place.read_bytes()
    place.write_bytes(data[:4] + bytes(8) + data[4:])
    lineage = Lineage(curated.recipe)
    with open_instance(curated.recipe) as instance:
        assert path not in output_files(lineage, instance)
