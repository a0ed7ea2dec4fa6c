"""What is wrong now is told by every command, whoever made it."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.tables import METADATA_KEY
from curation.testing.image_shards import make_tar
from curation.troubles import Trouble
from jobs.troubles import MOST_TOLD, any_are, trouble_tables
from tests.conftest import Curated
from tests.jobs.commands.conftest import Run, run, run_json
from tests.permissions import permissions_bind

__all__ = ["run", "run_json"]  # fixtures

NO_IMAGES = make_tar([("a.jpg", b"no image"), ("b.jpg", b"none"), ("c.txt", b"words")])


@pytest.fixture
def with_bad_tars(curated: Curated) -> Curated:
    raw = curated.source
    whole = raw.read("00000.tar")
    raw.write("cut.tar", whole[:100_000])
    raw.write("empty.tar", make_tar([]))
    raw.write("gzip.tar", gzip.compress(whole))
    raw.write("no images.tar", NO_IMAGES)
    raw.write("nothing.tar", b"")
    raw.write("page.tar", b"<html>404</html>")
    return curated


LOST = ["cut", "gzip", "no images", "nothing", "page"]


def lost(told: dict[str, Any]) -> list[str]:
    return sorted(t["shard"] for t in told["troubles"] if t["severity"] == "lost")


def test_tars_that_cannot_be_read_are_told_by_every_command_every_time(
    with_bad_tars: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    recipe = ("--recipe", with_bad_tars.recipe_file)
    told = run_json("run", *recipe, code=3)
    assert told["num_runs"] and not told["failed"]
    assert lost(told) == LOST
    code, again = run("run", *recipe)
    assert code == 3 and "there was nothing to do" in again
    assert "that could be read" in again
    assert lost(run_json("status", *recipe)) == LOST
    _, status = run("status", *recipe)
    code, doctor = run("doctor", *recipe)
    assert code == 5
    for out in (again, status, doctor):
        for word in [*LOST, "gzip: decompress", "HTML", "is empty", "no samples"]:
            assert word in " ".join(out.split())
    code, _ = run("run", *recipe, "--shards", "00000,empty")
    assert code == 0


def test_a_source_of_nothing_but_unreadable_tars_is_no_success(
    with_bad_tars: Curated, run: Run
) -> None:
    for shard in ("00000", "train/00001", "train/00002", "no images", "cut"):
        with_bad_tars.source.delete(f"{shard}.tar")
    code, out = run("run", "--recipe", with_bad_tars.recipe_file)
    assert code == 3
    assert "There are no samples" in out
    assert "%" not in out


def test_what_was_salvaged_in_part_is_told_until_it_is_whole(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    whole = curated.source.read("00000.tar")
    curated.source.write("cut.tar", whole[:100_000])
    curated.edit("machine:", "on_damage: salvage\nmachine:")
    recipe = ("--recipe", curated.recipe_file)
    for _ in range(2):
        (trouble,) = run_json("run", *recipe, code=3)["troubles"][:1]
        assert trouble["shard"] == "cut"
        assert trouble["what"].startswith("only ")
    curated.source.write("cut.tar", whole)
    assert lost(run_json("status", *recipe)) == []  # it is due, and not known to be bad
    assert lost(run_json("run", *recipe)) == []


def test_what_is_odd_at_the_source_costs_itself(
    curated: Curated, run: Run, run_json: Callable[..., Any]
) -> None:
    """Some of it can't be a partition, some not be listed, some not be read."""
    raw, whole = Path(curated.source.url), curated.source.read("00000.tar")
    for path in ("secret.tar", "a,b.tar", f"{'n' * 245}.tar", f"{'n' * 250}.tar"):
        curated.source.write(path, whole)
    (raw / os.fsdecode(b"\xff.tar")).write_bytes(whole)
    (raw / "secret.tar").chmod(0)
    (raw / "lost+found").mkdir(0)
    (raw / "loop").symlink_to(".")
    (raw / "gone.tar").symlink_to("nowhere")
    (raw / "packed.tgz").write_bytes(b"")
    recipe = ("--recipe", curated.recipe_file)
    odd = ["\\xff.tar", "a,b.tar", "gone.tar", "loop", "lost+found", "n" * 250 + ".tar"]
    odd += ["packed.tgz", "secret.tar"]
    with permissions_bind():
        told = run_json("run", *recipe, code=3)
        assert told["num_shards"] - 1 == told["num_selected_shards"] == 4
        assert not told["failed"]
        assert lost(told) == lost(run_json("status", *recipe)) == odd
        code, again = run("run", *recipe)
        assert code == 3 and "there was nothing to do" in again
        code, doctor = run("doctor", *recipe)
        assert code == 5
        for name in ("gone.tar", "loop", "lost+found", "packed.tgz", "secret.tar"):
            assert name in again and name in doctor
        code, _ = run("run", *recipe, "--shards", "00000")
        assert code == 0
        run_json("run", *recipe, "--shards", "secret", code=3)
        assert curated.output.exists(curated.artifacts.catalog("n" * 245))


def test_what_is_hidden_for_now_is_not_pruned(curated: Curated, run: Run) -> None:
    recipe = ("--recipe", curated.recipe_file)
    made = curated.output.list_files()
    raw = Path(curated.source.url)
    (raw / "00000.tar").rename(raw / "00000.tar.away")
    (raw / "00000.tar").symlink_to("nowhere")
    (raw / "train").chmod(0)
    curated.source.write("other.tar", make_tar([]))
    with permissions_bind():
        assert run("prune", *recipe, "--delete")[0] == 0
    (raw / "train").chmod(0o755)
    assert curated.output.list_files() == made


def test_a_table_has_the_first_and_says_how_many_more_there_are() -> None:
    troubles = [Trouble(str(n), "bad", "lost", "mend it") for n in range(MOST_TOLD + 2)]
    table, advice = trouble_tables(troubles)
    assert not isinstance(table, str) and table.row_count == MOST_TOLD + 1
    assert advice == "What to do (0, 1, 2, 3, 4, …): mend it"
    assert trouble_tables([]) == []


def test_only_what_was_lost_ends_with_a_code_of_its_own() -> None:
    lost, warning = Trouble("a", "", "lost", ""), Trouble("a", "", "warning", "")
    assert any_are([warning, lost], "lost")
    assert not any_are([warning], "lost")


def test_vectors_of_before_damaged_images_were_quarantined_are_told(
    curated: Curated, run: Run
) -> None:
    recipe = ("--recipe", curated.recipe_file)
    old = "embedded before Pillow decided"
    assert old not in run("status", *recipe)[1]
    tables = [curated.artifacts.embeddings(s) for s in ("00000", "train/00001")]
    for path in tables:  # as 0.1.0 wrote it
        table = pq.read_table(curated.output.root / path)
        about = json.loads(table.schema.metadata[METADATA_KEY])
        del about["good_images"]
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about)})
        pq.write_table(table, curated.output.root / path)
    for command in ("status", "run", "doctor"):
        told = " ".join(run(command, *recipe)[1].split())
        assert told.count(old) == 1
        assert "00000 and 1 more" in told
    (curated.output.root / tables[0]).unlink()
    run("run", *recipe)
    assert f"train/00001: {old}" in " ".join(run("status", *recipe)[1].split())
