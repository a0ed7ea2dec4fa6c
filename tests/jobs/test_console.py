"""What the command shows."""

import io
import json
import logging

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from jobs.console import (
    BarProgress,
    format_bytes,
    print_json,
    print_line,
    print_result,
    result_table,
    shorten,
    tell_logs,
    terminal_progress,
)

HOSTILE = "a\x1b[2J\x9b31m\x7f\r\u202eb :dog: [red]"
SHOWN = "a\\x1b[2J\\x9b31m\\x7f\\x0d\\u202eb :dog: [red]"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_are_written_in_powers_of_ten(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_a_table_shows_every_cell() -> None:
    table = result_table("Title", ("name", "count"), [("x", 1_234_567), ("y", 2.5)])
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    text = console.export_text()
    console.file.close()
    assert all(part in text for part in ("Title", "name", "x", "1,234,567", "2.5"))


@pytest.mark.parametrize("width", [60, 80, 300])
def test_numbers_are_shown_whole_where_columns_are_many(width: int) -> None:
    heads = ["caught by", *(f"{number / 100}" for number in range(80, 100, 2))]
    table = result_table("t", heads, [["some edit", *(f"{n}%" for n in range(91, 101))]])
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table, soft_wrap=True)
    shown = console.export_text()
    assert all(f" {number}% " in shown for number in range(91, 101))


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    "reason", ["x", "a > 1 or " * 9, f'selected("/{"path" * 60}.parquet")']
)
def test_counts_are_shown_whole_beside_a_reason_of_any_length(
    width: int, reason: str
) -> None:
    rows = [("samples in", 12_345_678_901), (f"  dropped: {reason}", 98_765)]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(result_table("", ("", "count"), rows), soft_wrap=True)
    shown = console.export_text()
    assert " 12,345,678,901 " in shown and " 98,765 " in shown
    assert reason.replace(" ", "") in "".join(
        line.split("│")[1].replace(" ", "") for line in shown.splitlines() if "│" in line
    )


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, "ü"]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, "ü"]}


def test_without_a_terminal_progress_is_plain_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with terminal_progress() as progress:
        progress.start("embeddings", 2)
        progress.fail("b", "bad tar")
        progress.advance("a", 10)
    told = capfd.readouterr().err
    assert "a done; 2 of 2 shards" in told
    assert "b failed: bad tar" in told
    assert "\x1b" not in told


def test_a_long_text_is_cut_and_a_short_one_is_not() -> None:
    assert [shorten("abc", 3), shorten("abcd", 3)] == ["abc", "ab…"]


def test_no_text_steers_the_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    tell_logs()
    print_result(HOSTILE, result_table("", ("", HOSTILE), [("x", HOSTILE), (HOSTILE, "")]))
    print_result(result_table(HOSTILE, ("", ""), [("x" * 70, "")]))
    print_line(f"error: {HOSTILE}")
    record = logging.LogRecord(
        "curation", logging.WARNING, "", 0, "of %s", (HOSTILE,), None
    )
    assert logging.lastResort
    logging.lastResort.handle(record)  # as it does where nobody else takes it
    with terminal_progress() as progress:
        progress.start("embeddings", 2)
        progress.fail(HOSTILE, HOSTILE)
        progress.advance(HOSTILE, 1)
    out, err = capfd.readouterr()
    assert out.count(SHOWN) == 5
    assert err.count(SHOWN) == 5
    assert not {"\x1b", "\x9b", "\x7f", "\r", "\u202e"} & {*out, *err}


def test_no_reason_steers_a_terminal_with_bars() -> None:
    file = io.StringIO()
    with Bars(console=Console(file=file, width=200, emoji=False)) as bars:
        BarProgress(bars).fail("shard", HOSTILE)
    assert f"shard failed: {SHOWN}" in file.getvalue()


def test_json_holds_no_control_characters_and_bytes_in_hex(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({HOSTILE: b"\x00\xff"})
    told = capsys.readouterr().out
    assert told.isascii() and told.replace("\n", "").isprintable()
    assert json.loads(told) == {HOSTILE: "00ff"}


def test_a_long_word_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/" + "x" * 150 + "/" + "y" * 64
    print_result(result_table("", ("", "what"), [("a", path)]))
    assert path in "".join(capsys.readouterr().out.replace("│", " ").split())


def test_heads_of_columns_are_never_cut() -> None:
    heads = ("caught by", *(f"{n / 100:g}" for n in range(81, 91)))
    table = result_table("", heads, [("an edit of some length", *["9%"] * 10)])
    console = Console(width=60, file=io.StringIO())
    console.print(table, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(head in shown for head in heads[1:])
    assert "…" not in shown


def test_a_bar_moves_inside_a_shard() -> None:
    with Bars(console=Console(file=io.StringIO())) as bars:
        progress = BarProgress(bars)
        progress.start("embeddings", 2)
        (bar,) = bars.tasks
        seen = []
        for tell in (
            lambda: progress.move("a", 25, 100),
            lambda: progress.move("b", 10, 20),
            lambda: progress.move("a", 75, 100),
            lambda: progress.advance("a", 100),
            lambda: progress.fail("b", "why"),
        ):
            tell()
            seen.append((bar.completed, bar.fields["rate"].split(", ")[0]))
    assert seen == [
        (0.25, "25 samples"),
        (0.75, "35 samples"),
        (1.25, "85 samples"),
        (1.5, "110 samples"),
        (2, ""),
    ]
    assert bar.finished


def test_a_bar_of_nothing_is_none() -> None:
    with Bars(console=Console(file=io.StringIO())) as bars:
        progress = BarProgress(bars)
        progress.start("embeddings", 0)
        progress.move("a", 1, 2)
        assert not bars.tasks
