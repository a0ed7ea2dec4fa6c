"""The story of one sample."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curation.errors import UnknownNameError
from curation.tables import (
    CATALOG,
    EMBEDDINGS,
    FILTERED,
    SCORES,
    SELECTION,
    read_about,
    read_table,
    write_table,
)
from jobs.commands.explain import _decision
from jobs.explain import explain
from jobs.release import make_release, make_takedown
from resources.progress import LineProgress
from tests.conftest import Curated

SHARDS = ("00000", "train/00001", "train/00002")


def planted(curated: Curated, kind: str) -> dict[str, str]:
    rows = pq.read_table(curated.folder / "raw" / "planted.parquet").to_pylist()
    found: dict[str, str] = next(row for row in rows if row["kind"] == kind)
    return found


def test_each_of_a_group_of_copies_is_told_the_whole_group(curated: Curated) -> None:
    copy = planted(curated, "exact_copy_threefold")
    rows = pq.read_table(curated.folder / "raw" / "planted.parquet").to_pylist()
    copies = {
        (row["shard"], row["key"]) for row in rows if row["twin_key"] == copy["twin_key"]
    }
    assert len(copies) == 2
    for key in (copy["twin_key"], *(key for _, key in copies)):
        (story,) = explain(curated.recipe, key, SHARDS)
        assert story.group
        assert story.group.key == copy["twin_key"]
        assert {(one.shard, one.key) for one in story.group.copies} == copies
        assert {one.closeness for one in story.group.copies} == {"identical"}
        assert ("not is_duplicate" in story.reasons) == (key != copy["twin_key"])


def test_a_group_is_whole_though_one_shard_is_looked_at(curated: Curated) -> None:
    copy = planted(curated, "exact_copy_threefold")
    (story,) = explain(curated.recipe, copy["key"], [copy["shard"]], SHARDS)
    assert story.group
    assert story.group.num_copies == 2


def test_a_dropped_copy_went_nowhere(curated: Curated) -> None:
    (story,) = explain(curated.recipe, planted(curated, "exact_copy")["key"], SHARDS)
    assert (story.kept, story.filtered_url) == (False, None)


def test_byte_ranges_are_those_of_the_files(curated: Curated) -> None:
    key = planted(curated, "photograph")["key"]
    (story,) = explain(curated.recipe, key, SHARDS)
    raw = (curated.source.root / f"{story.shard}.tar").read_bytes()
    texts = [part for part in story.components if part["name"].endswith(".txt")]
    (text,) = texts
    caption = raw[text["start"] : text["start"] + text["size"]].decode()
    assert caption == story.facts["caption"]
    assert set(story.scores) == {"sharpness_probe"}


def test_a_key_in_several_shards_has_several_stories(curated: Curated) -> None:
    stories = explain(curated.recipe, "cover", SHARDS)
    assert [story.shard for story in stories] == list(SHARDS)


def test_samples_of_one_key_in_one_shard_are_told_apart(curated: Curated) -> None:
    key = planted(curated, "photograph")["key"]
    (before,) = explain(curated.recipe, key, SHARDS)
    paths = curated.artifacts
    for path, kind in [
        (paths.embeddings(before.shard), EMBEDDINGS),
        (paths.scores(before.shard), SCORES),
        (paths.selection(before.shard), SELECTION),
        (paths.catalog(before.shard), CATALOG),
    ]:
        table = read_table(curated.output, path, kind)
        again, losses = table.filter(pc.equal(table["key"], key)), table.slice(0, 0)
        if kind is CATALOG:
            losses = table.filter(pc.is_null(table["sample"]))
            table = table.filter(pc.is_valid(table["sample"]))
            last = pa.array([9999] * len(again), pa.int32())
            again = again.set_column(0, "sample", last)
        about = read_about(curated.output, path)
        both = pa.concat_tables([table, again, losses])
        names = ("table", "version", "num_rows")
        kept = {name: value for name, value in about.items() if name not in names}
        write_table(curated.output, path, kind, both, **kept)
    first, second = explain(curated.recipe, key, SHARDS)
    assert first == before
    assert second.components == before.components


def test_unknown_keys_are_listed_once(curated: Curated) -> None:
    with pytest.raises(UnknownNameError) as caught:
        explain(curated.recipe, "nonesuch", SHARDS)
    listed = str(caught.value).rpartition("exist: ")[2].partition(" …")[0].split(", ")
    assert len(listed) == len(set(listed))


def test_a_quarantined_sample_says_why(curated: Curated) -> None:
    key = planted(curated, "html_page")["key"]
    (story,) = explain(curated.recipe, key, SHARDS)
    assert story.facts["error"]
    assert story.reasons[0].startswith("quarantined")


def test_what_is_not_made_yet_is_left_out(curated: Curated) -> None:
    key = planted(curated, "photograph")["key"]
    for folder in ("selection", "filtered", "scores", "duplicates"):
        for file in curated.output.list_files(folder):
            curated.output.delete(file.path)
    (story,) = explain(curated.recipe, key, SHARDS)
    assert (story.kept, story.scores, story.group) == (None, {}, None)


def test_an_unknown_key_is_told_with_its_neighbours(curated: Curated) -> None:
    with pytest.raises(UnknownNameError, match="did you mean cover"):
        explain(curated.recipe, "covr", SHARDS)


def test_a_sample_that_was_taken_down_says_so_and_its_copy_too(curated: Curated) -> None:
    copy = planted(curated, "exact_copy")
    release = make_release(curated.recipe, LineProgress(print))
    assert release is not None
    table = read_table(curated.output, f"{release.folder}/00000.parquet", FILTERED)
    (row,) = [
        row
        for row in table.select(["key", "source_shard", "source_key"]).to_pylist()
        if (row["source_shard"], row["source_key"])
        == (copy["twin_shard"], copy["twin_key"])
    ]
    line = f"{release.name}/00000\t{row['key']}"
    done = make_takedown(curated.recipe, LineProgress(print), [line])
    expected = {"release": release.name, "key": row["key"]}
    assert done.keys == (row["key"],)
    (original,) = explain(curated.recipe, copy["twin_key"], SHARDS)
    (same_image,) = explain(curated.recipe, copy["key"], SHARDS)
    assert original.taken_down == same_image.taken_down == expected
    assert _decision(original) == "dropped from every release: taken down"
    assert _decision(same_image) == "dropped"
    (other,) = explain(curated.recipe, planted(curated, "photograph")["key"], SHARDS)
    assert other.taken_down is None
