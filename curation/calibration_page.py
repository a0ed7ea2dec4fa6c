"""What thresholds catch of edited copies, as one HTML page: curves, tables, close pairs.

The page is built like a selection's report (``report.py``). What is measured, and how,
belongs in ``dedup/calibrate.py``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.report import Picture, html_page, html_pair, html_text

PLOT_WIDTH, PLOT_HEIGHT = 560, 260  # units of the SVG, without its margins
MARGIN = 40

AXES: Mapping[str, str] = {
    "exact": "the same bytes",
    "perceptual": "bits of the perceptual hash that differ at most (max_hamming)",
    "semantic": "cosine of the embeddings at least (min_similarity)",
}
"""What a threshold of a method says."""


@dataclass(frozen=True)
class CalibrationPage:
    """All that a page shows."""

    title: str
    remarks: Sequence[str]
    table: pa.Table
    """Of a :class:`~curation.dedup.calibrate.Calibration`."""
    closest: Sequence[tuple[Picture, Picture]] = ()
    """The most similar pairs of different images."""
    copies: Sequence[tuple[Picture, Picture]] = ()
    """Pairs that were left out as copies."""


@dataclass(frozen=True, slots=True)
class Caught:
    """What the thresholds of one method catch of one kind of pairs, as shares."""

    edit: str | None
    """None for pairs of different images."""
    thresholds: Sequence[float]
    shares: Sequence[float]
    pairs: int
    counts: Sequence[int]


def shares_of(table: pa.Table, method: str) -> list[Caught]:
    """Give a method's rows, the edits that are caught most first, different images last.

    Args:
        table: Of a :class:`~curation.dedup.calibrate.Calibration`.
        method: In :data:`~curation.dedup.calibrate.THRESHOLDS`.
    """
    by_edit: dict[str | None, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["method"] == method:
            by_edit.setdefault(row["edit"], []).append(row)
    found = [
        Caught(
            edit,
            [row["threshold"] for row in rows],
            [row["caught"] / max(row["pairs"], 1) for row in rows],
            rows[0]["pairs"],
            [row["caught"] for row in rows],
        )
        for edit, rows in by_edit.items()
    ]
    return sorted(found, key=lambda one: (one.edit is None, -sum(one.shares)))


def mean_share(rows: Sequence[Caught]) -> list[float]:
    """Give the share of all edited copies that each threshold catches."""
    edits = [row for row in rows if row.edit is not None]
    columns = zip(*(row.shares for row in edits), strict=True)
    return [sum(column) / len(edits) for column in columns]


def format_calibration(page: CalibrationPage) -> str:
    """Write the page as HTML, complete in itself."""
    body = [f"<p>{html_text(remark)}</p>" for remark in page.remarks]
    for method in dict.fromkeys(page.table["method"].to_pylist()):
        body += _method(method, shares_of(page.table, method))
    for title, pairs in (
        ("The most similar pairs of different images", page.closest),
        ("Left out: copies of each other by both methods", page.copies),
    ):
        if pairs:
            body += [f"<h2>{title}</h2>", *map(html_pair, pairs)]
    return html_page(page.title, "".join(body))


def _method(method: str, rows: Sequence[Caught]) -> Iterator[str]:
    thresholds = rows[0].thresholds
    yield f"<h2>{html_text(method)}</h2><p>Columns: {html_text(AXES[method])}.</p>"
    if len(thresholds) > 1:
        yield _plot(rows)
    heads = "".join(f"<td><b>{threshold:g}</b></td>" for threshold in thresholds)
    told = rows if len(thresholds) > 1 else rows[-1:]  # of equal bytes, edits are never
    lines = [f"<tr><td></td>{heads}</tr>", *map(_line, told)]
    yield f"<table>{''.join(lines)}</table>"


def _line(row: Caught) -> str:
    if row.edit is None:
        name = f"different images, of {row.pairs:,} pairs"
        cells = [_cell(f"{count:,}", count > 0, (214, 69, 65)) for count in row.counts]
    else:
        name = row.edit
        cells = [_cell(f"{share:.0%}", share, (58, 157, 93)) for share in row.shares]
    return f"<tr><td>{html_text(name)}</td>{''.join(cells)}</tr>"


def _cell(text: str, strength: float, colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    shade = f"rgba({red},{green},{blue},{0.75 * strength:.2f})"
    return f'<td class="count" style="background:{shade}">{text}</td>'


def _plot(rows: Sequence[Caught]) -> str:
    """Draw a thin line for each edit, a thick one for all, a red one for mistakes."""
    thresholds = rows[0].thresholds
    low, high = min(thresholds), max(thresholds)
    places = [MARGIN + PLOT_WIDTH * (t - low) / (high - low) for t in thresholds]

    def line(shares: Sequence[float], style: str, name: str) -> str:
        points = " ".join(
            f"{x:.1f},{MARGIN + PLOT_HEIGHT * (1 - share):.1f}"
            for x, share in zip(places, shares, strict=True)
        )
        return (
            f'<polyline points="{points}" fill="none" style="{style}">'
            f"<title>{html_text(name)}</title></polyline>"
        )

    thin, thick = "stroke:#9db7e8;stroke-width:1", "stroke:#2456b8;stroke-width:3"
    lines = [line(r.shares, thin, r.edit) for r in rows if r.edit is not None]
    lines.append(line(mean_share(rows), thick, "all edits"))
    lines += [
        line(r.shares, "stroke:#d33;stroke-width:2", "different images")
        for r in rows
        if r.edit is None
    ]
    base = MARGIN + PLOT_HEIGHT
    ticks = "".join(
        f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{t:g}</text>'
        for x, t in zip(places, thresholds, strict=True)
    )
    ticks += "".join(
        f'<text x="{MARGIN - 6}" y="{base - share * PLOT_HEIGHT:.1f}" text-anchor="end">'
        f"{share:.0%}</text>"
        for share in (0, 0.5, 1)
    )
    return (
        f'<svg width="{PLOT_WIDTH + 2 * MARGIN}" height="{base + 28}" role="img">'
        f"{''.join(lines)}{ticks}</svg><p>Blue: the share of edited copies that is caught, "
        "of each edit (thin) and of all (thick). Red: of pairs of different images.</p>"
    )
