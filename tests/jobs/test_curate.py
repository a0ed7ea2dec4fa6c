"""Bringing everything up to date: what is made again after which change, and what isn't."""

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import timm
from safetensors.torch import save_file

from curation.errors import CurationError, InputError, NotFoundError, UnknownNameError
from curation.recipe import load_recipe
from curation.verify import verify_shards
from curation_assets.ownership import OWNERS
from jobs.curate import CurateResult, curate
from jobs.summary import summarize
from resources.progress import LineProgress
from tests.conftest import ROOT, Curated


def run(curated: Curated, until: str = "filtered_shard") -> tuple[CurateResult, list[str]]:
    """Curate, and tell which assets were worked on."""
    lines: list[str] = []
    result = curate(curated.recipe, LineProgress(lines.append), until=until)
    return result, sorted({line.partition(":")[0] for line in lines})


def versions(curated: Curated, folder: str) -> dict[str, str]:
    return {file.path: file.version for file in curated.output.list_files(folder)}


def test_nothing_is_done_when_everything_is_up_to_date(curated: Curated) -> None:
    result, assets = run(curated)
    assert (result.num_runs, assets) == (0, [])


def test_another_threshold_decides_anew_and_opens_no_image(curated: Curated) -> None:
    before = versions(curated, "embeddings")
    curated.edit(">= 200", ">= 220")
    _, assets = run(curated)
    assert assets == ["filtered_shard", "selection"]
    assert versions(curated, "embeddings") == before


def test_a_replaced_tar_is_made_again_and_the_others_are_not(curated: Curated) -> None:
    tar = curated.folder / "raw" / "00000.tar"
    os.utime(tar, ns=(0, tar.stat().st_mtime_ns + 1))
    before = versions(curated, "filtered")
    run(curated)
    after = versions(curated, "filtered")
    changed = {path for path in after if after[path] != before[path]}
    assert changed == {
        f"filtered/small/00000.{suffix}" for suffix in ("tar", "idx", "parquet")
    }


def test_a_new_tar_is_curated_alone(curated: Curated) -> None:
    raw = curated.folder / "raw"
    before = versions(curated, "embeddings")
    shutil.copy2(raw / "train" / "00002.tar", raw / "zz.tar")
    result, _ = run(curated)
    assert not result.failed
    after = versions(curated, "embeddings")
    assert {path: after[path] for path in before} == before
    kept = pq.read_table(curated.output.root / curated.artifacts.filtered_table("zz"))
    assert kept.num_rows == 0  # all of it is a copy of another shard
    assert not curated.output.exists(curated.artifacts.filtered_tar("zz"))
    assert run(curated) == (CurateResult(), [])


def test_an_empty_tar_of_an_earlier_version_is_made_anew_without_one(
    curated: Curated,
) -> None:
    raw = curated.folder / "raw"
    shutil.copy2(raw / "train" / "00002.tar", raw / "zz.tar")
    run(curated)
    tar, idx, _ = curated.artifacts.of("filtered_shard", "zz")
    curated.output.write(tar, bytes(1024))
    curated.output.write(idx, b"v1.2 0\n")
    _, assets = run(curated)
    assert assets == ["filtered_shard"]
    assert not curated.output.exists(tar)
    assert not curated.output.exists(idx)


def kept_samples(curated: Curated) -> set[tuple[str, str]]:
    """Name the samples that a training job finds, which knows nothing but a glob."""
    folder = curated.output.root / curated.artifacts.filtered_folder
    found = set()
    for tar in folder.rglob("*.tar"):
        with tarfile.open(tar) as opened:
            names = opened.getnames()
        found |= {(str(tar.relative_to(folder)), n.partition(".")[0]) for n in names}
    return found


def rename(raw: Path) -> None:
    (raw / "00000.tar").rename(raw / "renamed.tar")


def delete(raw: Path) -> None:
    shutil.rmtree(raw / "train")


def replace_by_fewer(raw: Path) -> None:
    (raw / "train" / "00001.tar").rename(raw / "00000.tar")


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (rename, ("00000",)),
        (delete, ("train/00001", "train/00002")),
        (replace_by_fewer, ("train/00001",)),
    ],
)
def test_training_jobs_find_what_the_last_run_kept_and_nothing_else(
    curated: Curated, change: Callable[[Path], None], gone: tuple[str, ...]
) -> None:
    change(curated.source.root)
    result, _ = run(curated)
    assert result.set_aside == gone
    chosen = sorted(file.path[:-4] for file in curated.source.list_files(suffix=".tar"))
    found = kept_samples(curated)
    assert len(found) == summarize(curated.recipe, chosen).funnel.kept
    assert {tar[:-4] for tar, _ in found} <= set(chosen)
    assert (
        verify_shards(curated.output, curated.artifacts.filtered_folder).differences == ()
    )


def test_what_is_gone_is_set_aside_though_the_rest_fails(curated: Curated) -> None:
    rename(curated.source.root)
    (curated.source.root / "renamed.tar").write_bytes(b"no tar")
    run(curated)
    assert "00000.tar" not in {tar for tar, _ in kept_samples(curated)}


def test_a_source_that_shows_nothing_changes_nothing(curated: Curated) -> None:
    before = kept_samples(curated)
    curated.source.root.rename(curated.folder / "unmounted")
    curated.source.root.mkdir()
    with pytest.raises(InputError, match=r"no \.tar file"):
        run(curated)
    assert kept_samples(curated) == before


def test_tars_that_are_not_marked_as_complete_are_left_for_later_and_named(
    curated: Curated,
) -> None:
    curated.edit("output:", "complete_when: marked\noutput:")
    raw = curated.folder / "raw"
    os.utime(raw / "00000.tar", ns=(0, (raw / "00000.tar").stat().st_mtime_ns + 1))
    shutil.copy2(raw / "00000.tar", raw / "zz.tar")
    curated.edit(">= 200", ">= 201")
    before = versions(curated, "filtered")
    result, _ = run(curated)
    assert (result.failed, result.waiting) == ({}, ("00000", "zz"))
    after = versions(curated, "filtered")
    changed = {
        path.removeprefix("filtered/small/")
        for path in after
        if after[path] != before[path]
    }
    assert {name.partition(".")[0] for name in changed} == {"train/00001", "train/00002"}


def test_a_tar_that_is_gone_gives_its_copies_back(curated: Curated) -> None:
    (curated.folder / "raw" / "00000.tar").unlink()
    run(curated)
    for shard in ("train/00001", "train/00002"):
        path = curated.output.root / curated.artifacts.duplicates(shard)
        assert "00000" not in pq.read_table(path)["survivor_shard"].to_pylist()


def test_deleted_artifacts_are_made_again_as_they_were(curated: Curated) -> None:
    folder = curated.output.root / "filtered"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    shutil.rmtree(folder)
    _, assets = run(curated)
    assert assets == ["filtered_shard"]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_the_whole_output_can_be_deleted(curated: Curated) -> None:
    before = {f.path: f.size for f in curated.output.list_files("filtered")}
    shutil.rmtree(curated.output.root)
    result, _ = run(curated)
    assert not result.failed
    assert {f.path: f.size for f in curated.output.list_files("filtered")} == before


def test_a_damaged_tar_is_an_empty_quarantined_shard_and_no_failure(
    curated: Curated,
) -> None:
    whole = (curated.folder / "raw" / "00000.tar").read_bytes()
    (curated.folder / "raw" / "cut.tar").write_bytes(whole[:100_000])
    result, _ = run(curated)
    assert not result.failed
    catalog = pq.read_table(curated.output.root / curated.artifacts.catalog("cut"))
    assert catalog["loss"].null_count == 0
    assert len(catalog) == 1


def test_a_damaged_tar_is_salvaged_where_the_recipe_says_so(curated: Curated) -> None:
    whole = (curated.folder / "raw" / "00000.tar").read_bytes()
    (curated.folder / "raw" / "cut.tar").write_bytes(whole[:100_000])
    curated.edit("machine:", "on_damage: salvage\nmachine:")
    result, _ = run(curated)
    assert not result.failed
    rows = pq.read_table(curated.output.root / curated.artifacts.embeddings("cut"))
    assert 0 < rows.num_rows < 20


def test_until_stops_after_that_asset(curated: Curated) -> None:
    shutil.rmtree(curated.output.root)
    run(curated, until="shard_index")
    made = {f.path.split("/")[0] for f in curated.output.list_files()}
    assert made == {"index", OWNERS}


def test_only_the_chosen_shards_are_made(curated: Curated) -> None:
    shutil.rmtree(curated.output.root)
    curate(curated.recipe, LineProgress(print), shards=["00000"], until="shard_index")
    assert {f.path for f in curated.output.list_files()} == {
        "index/00000.idx",
        "index/00000.parquet",
        f"{OWNERS}/small.json",
    }


def test_an_asset_that_does_not_exist_is_named(curated: Curated) -> None:
    with pytest.raises(UnknownNameError, match="embeddings"):
        run(curated, until="embedings")


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (("source: raw", "source: nowhere"), InputError, "no .tar file"),
        (("output: curated", "output: /proc/x"), (InputError, NotFoundError), "/proc/x"),
        (("output: curated", "output: raw/curated"), InputError, "within the source"),
        (("min(width", "min(witdh"), UnknownNameError, "width"),
        (("probe.safetensors", "absent.safetensors"), NotFoundError, "absent.safetensors"),
        (("{precision: fp32}", "{weights: absent.pth}"), NotFoundError, "absent.pth"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    curated: Curated,
    edit: tuple[str, str],
    error: type[Exception] | tuple[type[Exception], ...],
    message: str,
) -> None:
    before = versions(curated, "")
    recipe = curated.edit(*edit)
    with pytest.raises(error, match=message):
        curate(recipe, LineProgress(print))
    assert versions(curated, "") == before


def test_recipes_with_one_output_share_what_they_agree_on_and_leave_the_rest_alone(
    curated: Curated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(curated, until="raw_shard")  # records where the copy's source is
    ours = dict(versions(curated, ""))
    other = tmp_path / "copy" / "other.yaml"
    text = curated.recipe_file.read_text().replace("name: small", "name: other")
    text = text.replace(
        "sharpness_probe:", "blurred: {type: linear_probe, weights: p2}\n  s:"
    )
    text = text.replace("sharpness_probe >=", "s >=").replace("p2", "probe.safetensors")
    other.write_text(text)
    with monkeypatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(tmp_path / "home of the other"))
        (tmp_path / "home of the other").mkdir()
        result = curate(load_recipe(other), LineProgress(lambda _: None))
    assert not result.failed
    after = versions(curated, "")
    assert {path: after[path] for path in ours} == ours
    added = {path.partition("/")[0] for path in after.keys() - ours.keys()}
    assert added == {"scores", "duplicates", "selection", "filtered", OWNERS}
    assert run(curated) == (CurateResult(), [])


def test_a_tar_whose_path_can_be_no_key_is_named_and_costs_itself(
    curated: Curated,
) -> None:
    raw = curated.folder / "raw"
    (raw / "00000.tar").rename(raw / "a,b.tar")
    result, _ = run(curated)
    assert not result.failed
    summary = summarize(curated.recipe, ["train/00001", "train/00002"])
    assert summary.num_filtered_shards == 2
    told = {trouble.shard: trouble.severity for trouble in summary.troubles}
    assert told.get("a,b.tar") == "lost"


def test_the_same_shards_give_the_same_bytes_in_any_output(curated: Curated) -> None:
    before = {
        f.path: curated.output.read(f.path) for f in curated.output.list_files("filtered")
    }
    shutil.rmtree(curated.output.root)
    shutil.rmtree(curated.folder / "home")
    (curated.folder / "home").mkdir()
    run(curated)
    after = {
        f.path: curated.output.read(f.path) for f in curated.output.list_files("filtered")
    }
    assert after == before


def test_the_example_recipe_is_one(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipe.yaml")
    assert recipe.source == str(ROOT / "demo" / "raw")


MISTAKES = [
    ("encoder: {", "encoder: {model: tf_efficientnet_light, ", "nearest names"),
    ("encoder: {", "encoder: {weights: /absent.pth, ", "no such file"),
    ("device: cpu, ", "device: cuda, ", "set it to auto"),
    ("encoder: {", "encoder: {model: tf_efficientnet_lite1, ", "another architecture"),
    ("classifiers:\n", "classifiers:\n  nsfw: {}\n", "classifier nsfw: it understands"),
    ("precision: fp32", "model: test_vit, weights: $", "classifier sharpness_probe: "),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_is_told_before_any_shard_is_indexed(
    old: str, new: str, message: str, curated: Curated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    weights = curated.folder / "tiny.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), weights)
    curated.edit("output: curated", "output: elsewhere")
    curated.edit(old, new.replace("$", str(weights)))
    with pytest.raises(CurationError, match=message):
        curate(curated.recipe, LineProgress(print))
    assert not (curated.folder / "elsewhere" / "index").exists()


def test_what_is_not_due_is_not_looked_at(
    curated: Curated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    curated.edit("device: cpu, ", "device: cuda, ")
    curated.edit(">= 200", ">= 220")
    _, assets = run(curated)
    assert assets == ["filtered_shard", "selection"]
