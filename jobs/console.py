"""What the ``curate`` command shows: progress, tables, errors, or JSON for machines.

Everything for people goes to standard error or, as the result, to standard output; with
``--json`` standard output holds one JSON document and nothing else. Names, captions and
messages are strangers' text: all of it passes :func:`told`, and none steers the terminal.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from curation.public_urls import text_without_secrets, values_without_secrets
from curation.texts import printable
from jobs.hints import with_recipe
from jobs.interruptions import write_patiently
from resources.progress import LineProgress, Progress, Tally


def told(text: str) -> str:
    """Make a text one for the terminal: harmless, and its advice ready to be copied.

    URLs are without secrets: what a terminal shows is copied into reports of faults.
    """
    return printable(with_recipe(text_without_secrets(text)))


def print_line(text: str) -> None:
    """Print a line to standard error: an error, or how far the work is."""
    print(told(text), file=sys.stderr)


def tell_logs() -> None:
    """Let warnings that nobody else handles reach the terminal as all else does."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_ToldLogs())


class _ToldLogs(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return told(super().format(record))


def format_bytes(size: float) -> str:
    """Write a size as people do: ``12.3 MB``, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def shorten(text: str, most: int = 32) -> str:
    """Cut a text, such as a key, to some characters, so that a table stays readable."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


NEVER_CUT = 8
"""Characters up to which a cell is shown whole, be the terminal as narrow as it is."""
LONGEST_NAME = 40
"""Characters of the first column up to which it is not broken over lines."""


def result_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Table:
    """Lay out a table; columns of numbers are aligned to the right."""
    # as Text, for rich reads markup in a title; "" is no title
    bold = Text(told(title), style="bold") if title else title
    table = Table(title=bold, title_justify="left")
    for position, column in enumerate(columns):
        numbers = all(isinstance(row[position], int | float) for row in rows)
        longest = max(len(_cell(row[position])) for row in [columns, *rows])
        # the first column names the row; the others, and a name that would leave them no
        # room, may be broken over lines, not numbers
        table.add_column(
            told(column),
            justify="right" if rows and numbers else "left",
            no_wrap=not position and longest <= LONGEST_NAME,
            overflow="fold",  # a hash or a path is longer than many a column
            min_width=longest if numbers else min(longest, NEVER_CUT),
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else told(str(value))


def print_result(*parts: Table | str) -> None:
    """Print the result for people: tables and lines, in order."""
    console = Console(emoji=False)
    for part in parts:
        part = told(part) if isinstance(part, str) else part
        console.print(part, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print the result as one JSON document."""
    # all but ASCII is escaped; of that, DEL alone steers a terminal
    told = values_without_secrets(value)
    print(json.dumps(told, indent=2, default=_plain).replace("\x7f", "\\u007f"))


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class BarProgress(Progress):
    """A bar per asset on a terminal: shards, samples, samples/s, time left."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None
        self._tally = Tally(0)

    def start(self, asset: str, num_shards: int) -> None:
        """Begin a bar, if there is anything to do."""
        self._tally = Tally(num_shards)
        self._task = (
            self._bars.add_task(asset, total=num_shards, rate="") if num_shards else None
        )

    def move(self, shard: str, num_samples: int, total: int) -> None:
        """Move the bar by a fraction of a shard."""
        self._tally.move(shard, num_samples, total)
        self._show(self._rate())

    def advance(self, shard: str, num_samples: int) -> None:
        """Move the bar to the end of a shard."""
        self._tally.end(shard, num_samples)
        self._show(self._rate())

    def fail(self, shard: str, reason: str) -> None:
        """Move the bar to the end of the shard, and keep the reason above it."""
        self._tally.end(shard)
        line = told(f"{shard} failed: {reason}")
        self._bars.console.print(line, markup=False, style="red")
        self._show("")

    def _rate(self) -> str:
        tally = self._tally
        return f"{tally.num_samples:,} samples, {tally.samples_per_second:,.0f}/s"

    def _show(self, rate: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=self._tally.shards, rate=rate)


@contextmanager
def terminal_progress() -> Iterator[Progress]:
    """Show bars where standard error is a terminal, and plain lines where it is not.

    Dagster captures what a running step prints by pointing the descriptors of standard
    output and error elsewhere, so the terminal is written to through a copy of its own.
    """
    with write_patiently(os.dup(sys.stderr.fileno()), close=True) as terminal:
        console = Console(file=terminal, emoji=False)
        if not console.is_terminal:
            yield LineProgress(
                lambda line: terminal.write(f"{told(line)}\n"), seconds_between=5
            )
            return
        columns = (
            TextColumn("{task.description:>16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("shards  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=console) as bars:
            yield BarProgress(bars)
