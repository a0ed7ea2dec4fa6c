"""Files that another recipe, home or hand wrote are never taken for one's own."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from curation.errors import InputError, StaleError, UnknownNameError
from curation.recipe import Recipe
from curation.tables import read_about
from curation_assets.lineage import Lineage
from curation_assets.ownership import owner_path
from jobs.asset_definitions import asset_definitions
from jobs.commands.export import _check_current
from jobs.curate import curate
from jobs.decide import decide
from jobs.explain import explain
from jobs.instance import open_instance
from jobs.new_shards import tick
from jobs.plan import current_plan
from jobs.release import make_release
from jobs.summary import summarize
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ["00000", "train/00001", "train/00002"]
QUIET = LineProgress(lambda _: None)
NARROW, WIDE = "width < 257", "width >= 257"


@pytest.fixture
def home() -> Iterator[dg.DagsterInstance]:
    """Open another home, whose records know nothing of what is there."""
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def wide(curated: Curated) -> Recipe:
    """Give a recipe that keeps wide pictures, all made."""
    text = curated.recipe_file.read_text()
    start, stop = text.index("filter:"), text.index("machine:")
    curated.recipe_file.write_text(f"{text[:start]}filter: {WIDE}\n{text[stop:]}")
    curate(curated.recipe, QUIET)
    return curated.recipe


def as_narrow(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"filter": NARROW})


def overwrite(curated: Curated, recipe: Recipe, home: dg.DagsterInstance) -> None:
    """Let a recipe of the same name write, as one could that knows of no owner."""
    owner = owner_path(recipe.name)
    before = curated.output.read(owner)
    curated.output.delete(owner)
    curate(recipe, QUIET, instance=home)
    curated.output.write(owner, before)


def widths(curated: Curated, folder: str) -> list[int]:
    tables = (curated.output.root / folder).rglob("*.parquet")
    return [w for table in tables for w in pq.read_table(table)["width"].to_pylist()]


def test_the_second_recipe_of_a_name_is_refused_and_changes_nothing(
    curated: Curated, wide: Recipe, home: dg.DagsterInstance
) -> None:
    before = curated.output.list_files()
    with pytest.raises(InputError, match="another recipe called small writes to"):
        curate(as_narrow(wide), QUIET, instance=home)
    told = str(tick(home, as_narrow(wide), None).skip_reason)
    assert "another recipe called small writes to" in told
    assert curated.output.list_files() == before
    manifest = make_release(wide, QUIET)
    assert manifest is not None
    assert min(widths(curated, manifest.folder)) >= 257


def test_what_another_recipe_wrote_is_due_and_is_not_released(
    curated: Curated, wide: Recipe, home: dg.DagsterInstance
) -> None:
    overwrite(curated, as_narrow(wide), home)
    assert max(widths(curated, "filtered")) < 257
    with open_instance(wide) as instance:
        due = current_plan(instance, Lineage(wide)).due
    assert set(due["selection"]) == set(due["filtered_shard"]) == set(SHARDS)
    assert summarize(wide, SHARDS).num_selected_shards == 0
    with pytest.raises(StaleError, match="3 filtered shard"):
        make_release(wide, QUIET)
    with pytest.raises(StaleError):
        make_release(wide, QUIET, as_is=True)
    with pytest.raises(
        StaleError, match=r"3 filtered shard.* are not what the recipe says"
    ):
        _check_current(Lineage(wide))
    curate(wide, QUIET)
    manifest = make_release(wide, QUIET)
    assert manifest is not None
    assert min(widths(curated, manifest.folder)) >= 257


def test_a_release_as_it_is_names_the_filter_that_chose_its_samples(
    curated: Curated, wide: Recipe
) -> None:
    manifest = make_release(as_narrow(wide), QUIET, as_is=True)
    assert manifest is not None
    assert manifest.recipe["filter"] == WIDE
    assert min(widths(curated, manifest.folder)) >= 257


@pytest.mark.parametrize("asset", ["embeddings", "scores", "duplicates", "selection"])
def test_a_table_of_something_else_is_read_by_nobody(curated: Curated, asset: str) -> None:
    path = curated.artifacts.of(asset, "00000")[-1]
    other = curated.artifacts.of(asset, "train/00001")[-1]
    key = pq.read_table(curated.output.root / path)["key"][0].as_py()
    curated.output.copy(other, path)  # a table of the same kind, of other samples
    recipe = curated.recipe
    if asset != "selection":  # which is decided anew
        assert decide(recipe).missing == ("00000",)
    if asset == "embeddings":
        with pytest.raises(UnknownNameError):  # nothing is known of any sample
            explain(recipe, key, ["00000"])
    else:
        (story,) = explain(recipe, key, ["00000"], SHARDS)
        assert (story.kept is None) == (asset != "scores")
        assert (story.scores == {}) == (asset == "scores")


@pytest.mark.parametrize(
    ("asset", "reader"),
    [
        ("shard_index", "embeddings"),
        ("embeddings", "scores"),
        ("embeddings", "selection"),
        ("scores", "selection"),
        ("duplicates", "selection"),
        ("shard_index", "filtered_shard"),
        ("embeddings", "filtered_shard"),
        ("selection", "filtered_shard"),
    ],
)
def test_a_step_refuses_what_is_not_on_record_and_makes_the_other_shards(
    curated: Curated, asset: str, reader: str
) -> None:
    of = curated.artifacts.of
    made = of(reader, "00000")[-1]
    before = read_about(curated.output, made)["fingerprint"]
    curated.output.copy(of(asset, "train/00001")[-1], of(asset, "00000")[-1])
    failed: dict[str, str] = {}

    class Watcher(LineProgress):
        def fail(self, shard: str, reason: str) -> None:
            failed[shard] = reason

    for shard in SHARDS[:2]:
        curated.output.delete(of(reader, shard)[-1])
    definitions = asset_definitions(curated.recipe, progress=Watcher(print))
    with open_instance(curated.recipe) as instance:
        for shard in SHARDS[:2]:
            definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(reader)],
                partition_key=shard,
                raise_on_error=False,
            )
    assert list(failed) == ["00000"]
    assert "made of something else" in failed["00000"]
    assert curated.output.exists(of(reader, "train/00001")[-1])
    assert not curated.output.exists(made)
    assert before


def test_two_sources_of_one_output_do_not_take_each_others_tables(
    curated: Curated, home: dg.DagsterInstance, tmp_path: Path
) -> None:
    raw = tmp_path / "raw2"
    (raw / "train").mkdir(parents=True)
    (raw / "00000.tar").write_bytes(curated.source.read("train/00002.tar"))
    ours, other = (
        curated.recipe,
        curated.recipe.model_copy(update={"name": "other", "source": str(raw)}),
    )
    curate(ours, QUIET)  # so that it is on record who writes
    curate(other, QUIET, instance=home)
    with open_instance(ours) as instance:
        due = current_plan(instance, Lineage(ours)).due
    assert "00000" in due["embeddings"]
    curate(ours, QUIET)
    assert decide(ours).missing == ()
    manifest = make_release(ours, QUIET)
    assert manifest is not None
