"""Where a recipe's records are, and its partitions."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from curation.devices import visible_gpus
from curation.errors import CurationError, InputError
from curation.recipe import Recipe
from curation_assets import partitions
from curation_assets.partitions import SHARDS
from jobs import instance as module
from jobs.cli import exit_code
from jobs.exit_codes import EXIT_STORAGE, EXIT_WRONG_INPUT
from jobs.instance import dagster_home, limit_gpu_runs, open_instance, set_shards

RECIPE = Recipe(name="one", source="/nowhere", output="/nowhere-else")


def test_the_variable_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert dagster_home(RECIPE) == tmp_path


def test_a_variable_that_names_no_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "gone"))
    with (
        pytest.raises(InputError, match="gone, and there is no such folder"),
        open_instance(RECIPE),
    ):
        pass


def test_a_home_of_ones_own_without_settings_gets_those_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with open_instance(RECIPE) as instance:
        assert not instance.telemetry_enabled
        assert type(instance.run_coordinator).__name__ == "RunQueue"
    assert capfd.readouterr() == ("", "")  # nor Dagster's notice


def test_settings_of_ones_own_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with open_instance(RECIPE) as instance:
        assert type(instance.run_coordinator).__name__ != "RunQueue"


@pytest.mark.parametrize(
    "settings", ["storage: {sqlit: {}}", "nothing: 1", "a: [", "a: b: c"]
)
def test_settings_that_are_wrong_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(settings)
    with pytest.raises(InputError, match=r"dagster\.yaml is wrong"), open_instance(RECIPE):
        pass


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a file system of 2 MB as ``DAGSTER_HOME``; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or not _mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)):
        pytest.skip("no file system can be mounted here")
    monkeypatch.setenv("DAGSTER_HOME", str(disk))
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def _mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def _fill(disk: Path) -> None:
    block = 64 << 10
    with suppress(OSError), open(disk / "fill", "wb", buffering=0) as file:
        while True:  # a block that does not fit is written in part
            file.write(bytes(block))


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("is_full", "code", "told"),
    [(True, EXIT_STORAGE, "Make room"), (False, EXIT_WRONG_INPUT, "make the folder")],
)
def test_a_home_that_cannot_be_written_is_told(
    small_disk: Path, is_full: bool, code: int, told: str, later: bool
) -> None:
    if later:
        with open_instance(RECIPE):
            pass
    if is_full:
        _fill(small_disk)
    else:
        assert _mounted("-o", "remount,ro", str(small_disk))
    with pytest.raises(CurationError, match=told) as raised, open_instance(RECIPE) as one:
        set_shards(one, ["a"])
    assert str(small_disk) in str(raised.value)
    assert exit_code(raised.value) == code


def test_errors_of_other_files_in_the_block_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nowhere"), open_instance(RECIPE):
        Path("/nowhere").read_bytes()


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
