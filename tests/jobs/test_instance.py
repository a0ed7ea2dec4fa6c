"""Where a recipe's records are, and its partitions."""

from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from curation.devices import visible_gpus
from curation.errors import InputError
from curation.recipe import Recipe
from curation_assets import partitions
from curation_assets.partitions import SHARDS
from jobs import instance as module
from jobs.instance import dagster_home, limit_gpu_runs, open_instance, set_shards

RECIPE = Recipe(name="one", source="/nowhere", output="/nowhere-else")


def test_the_variable_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert dagster_home(RECIPE) == tmp_path


def test_a_variable_that_names_no_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="gone, and there is no such folder"):
        open_instance(RECIPE)


def test_every_recipe_has_a_home_of_its_own_with_the_checkouts_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    other = RECIPE.model_copy(update={"name": "two"})
    homes = {dagster_home(RECIPE), dagster_home(other)}
    assert len(homes) == 2
    for home in homes:
        assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    with open_instance(RECIPE) as instance:
        set_shards(instance, ["a"])
    with open_instance(other) as instance:
        assert instance.get_dynamic_partitions("shards") == []


def test_partitions_become_the_shards_of_the_source() -> None:
    name = SHARDS.name or ""
    with dg.DagsterInstance.ephemeral() as instance:
        set_shards(instance, ["a", "b"])
        set_shards(instance, ["b", "c"])
        assert instance.get_dynamic_partitions(name) == ["b", "c"]
        set_shards(instance, ["a", "b", "c"])
        assert instance.get_dynamic_partitions(name) == ["b", "c", "a"]


def test_many_partitions_are_added_in_several_statements_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partitions, "ADDED_AT_ONCE", 2)
    with dg.DagsterInstance.ephemeral() as instance:
        set_shards(instance, ["e", "d", "c"])
        set_shards(instance, ["e", "d", "c", "b", "a"])
        assert instance.get_dynamic_partitions(SHARDS.name or "") == list("edcba")


def test_shards_that_someone_else_adds_at_the_same_moment_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with open_instance(RECIPE) as ours, open_instance(RECIPE) as theirs:
        added: list[str] = []

        def meddle(
            _connection: object, _cursor: object, statement: str, *_: object
        ) -> None:
            if "INSERT INTO dynamic_partitions" in statement and not added:
                added.append("b")
                set_shards(theirs, added)

        event.listen(Engine, "before_cursor_execute", meddle)
        try:
            set_shards(ours, ["a", "b", "c"])
        finally:
            event.remove(Engine, "before_cursor_execute", meddle)
        assert ours.get_dynamic_partitions("shards") == ["b", "a", "c"]


def test_as_many_runs_embed_as_there_are_gpus_and_one_without() -> None:
    with dg.instance_for_test() as instance:
        limit_gpu_runs(instance)
        info = instance.event_log_storage.get_concurrency_info("gpu")
        assert info.slot_count == max(len(visible_gpus()), 1)
