"""What is there of a recipe's artifacts, by name and by what it is made of."""

from curation_assets.lineage import Lineage
from jobs.instance import open_instance
from jobs.output_files import output_files
from tests.conftest import Curated


def test_a_table_of_something_else_is_not_there(curated: Curated) -> None:
    mine, other = (
        curated.artifacts.of("selection", shard)[-1] for shard in ("00000", "train/00001")
    )
    curated.output.copy(other, mine)
    lineage = Lineage(curated.recipe)
    with open_instance(curated.recipe) as instance:
        assert output_files(lineage) - output_files(lineage, instance) == {mine}
