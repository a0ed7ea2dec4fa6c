"""What is told as shards are done."""

from datetime import timedelta

import pytest

from resources.progress import LineProgress, Tally


def test_a_line_says_what_is_done_and_how_much_is_left() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    progress.start("embeddings", 3)
    progress.advance("a/0", 100)
    progress.fail("a/1", "cut short")
    progress.advance("a/2", 50)
    assert lines[0].startswith("embeddings: a/0 done; 1 of 3 shards, ")
    assert "a/1 failed: cut short; 2 of 3 shards" in lines[1]
    assert "a/2 done; 3 of 3 shards" in lines[2] and "about 0:00:00 left" in lines[2]


def test_lines_are_spaced_but_failures_and_the_end_are_always_told() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append, seconds_between=3600)
    progress.start("scores", 5)
    for shard in "abc":
        progress.advance(shard, 1)
    progress.fail("d", "why")
    progress.advance("e", 1)
    assert [line.split(":")[1].split(";")[0] for line in lines] == [" d failed", " e done"]


def test_counting_begins_anew_with_each_asset() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    for asset in ("scores", "selection"):
        progress.start(asset, 1)
        progress.advance("a", 1)
    assert [line.split("; ")[1][:11] for line in lines] == ["1 of 1 shar"] * 2


def test_no_name_steers_the_console_of_a_run() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    progress.start("embeddings", 2)
    progress.advance("a\x1b[2J", 1)
    progress.fail("b", "\x9b31m\u202e")
    assert "a\\x1b[2J done" in lines[0]
    assert "b failed: \\x9b31m\\u202e" in lines[1]


def test_a_shard_under_way_moves_the_lines() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append, seconds_inside=0)
    progress.start("embeddings", 1)
    for done in (1000, 2000, 4000):
        progress.move("a/0", done, 4000)
    progress.advance("a/0", 4000)
    assert [line.split(", ")[0] for line in lines] == [
        "embeddings: a/0: 1,000 of 4,000 samples; 0 of 1 shards",
        "embeddings: a/0: 2,000 of 4,000 samples; 0 of 1 shards",
        "embeddings: a/0: 4,000 of 4,000 samples; 0 of 1 shards",
        "embeddings: a/0 done; 1 of 1 shards",
    ]


def test_lines_about_a_shard_under_way_are_seldom() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    progress.start("embeddings", 2)
    for done in range(1, 100):
        progress.move("a", done, 100)
    progress.advance("a", 100)
    progress.move("b", 1, 100)
    progress.fail("b", "why")
    assert [line.split(";")[0] for line in lines] == [
        "embeddings: a done",
        "embeddings: b failed: why",
    ]


def test_a_tally_counts_shards_under_way_by_their_fractions() -> None:
    tally = Tally(4)
    tally.move("a", 50, 100)
    tally.move("b", 10, 40)
    assert (tally.shards, tally.num_samples) == (0.75, 60)
    tally.move("a", 75, 100)
    assert (tally.shards, tally.num_samples) == (1.0, 85)
    tally.end("a", 100)  # not twice
    assert (tally.shards, tally.num_samples) == (1.25, 110)
    tally.end("b")  # failed: its samples are not done
    assert (tally.shards, tally.num_samples, tally.num_ended) == (2, 100, 2)


@pytest.mark.parametrize("part", [(0, 0), (0, 10), (1, 10**12)])
def test_next_to_nothing_done_has_a_time_left_too(part: tuple[int, int]) -> None:
    tally = Tally(10**9)
    assert tally.left >= timedelta(0)
    tally.move("a", *part)
    assert timedelta(0) <= tally.left < timedelta(days=20_000)
