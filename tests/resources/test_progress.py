"""What is told as shards are done."""

from resources.progress import LineProgress


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
