"""What the command shows."""

import io
import json

import pytest
from rich.console import Console

from jobs.console import (
    format_bytes,
    print_json,
    result_table,
    shorten,
    terminal_progress,
)


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
