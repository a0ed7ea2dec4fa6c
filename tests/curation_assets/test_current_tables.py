"""A table of the same kind, made of something else, is as good as not there."""

import pytest

from curation.errors import NotFoundError, StaleError
from curation_assets.current_tables import CurrentTables, is_made
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards
from tests.conftest import Curated

ASSETS = ["embeddings", "scores", "duplicates", "selection", "filtered_shard"]


def tables_of(curated: Curated) -> CurrentTables:
    tars = list_shards(curated.source)
    return CurrentTables(Lineage(curated.recipe), curated.output, tars)


@pytest.mark.parametrize("asset", ASSETS)
def test_what_a_run_made_is_read_and_what_is_of_another_shard_is_not(
    curated: Curated, asset: str
) -> None:
    paths = [curated.artifacts.of(asset, shard)[-1] for shard in ("00000", "train/00001")]
    assert is_made(tables_of(curated), asset, "00000")
    curated.output.copy(paths[1], paths[0])
    with pytest.raises(StaleError, match="made of something else"):
        tables_of(curated).read(asset, "00000")
    assert not is_made(tables_of(curated), asset, "00000")
    assert is_made(tables_of(curated), asset, "train/00001")


def test_of_a_shard_that_is_gone_nothing_is_read(curated: Curated) -> None:
    with pytest.raises(NotFoundError, match="no such shard"):
        tables_of(curated).read("embeddings", "gone")
