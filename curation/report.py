"""A selection as one HTML page: funnel, histograms, pictures by reason, copies in rows.

The page is one file that needs no network: plots are inline SVG, pictures are data URLs.
Captions, keys and reasons come from whoever made the shards, so all text is escaped where
it enters the page, pictures are drawn anew, and the page forbids itself every script.

Belongs here: what the page looks like. Which samples it shows is up to who calls.
"""

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.contact_sheet import contact_sheet
from curation.funnel import Funnel
from curation.preview import Threshold

PICTURE_SIDE = 120  # pixels
LONGEST_TEXT = 120  # characters of a key, a caption or a note below a picture

PLOT_WIDTH, PLOT_HEIGHT = 480, 120  # units of the SVG, without its margins
MARGIN = 24


@dataclass(frozen=True)
class Picture:
    """A sample as it is shown."""

    shard: str
    key: str
    image: bytes
    """Encoded; what can't be decoded shows as a red square with its note."""
    note: str = ""
    """What it is shown for: a score, its reasons."""
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Samples under one heading."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class PicturedGroup:
    """A group of copies."""

    stays: Picture
    copies: Sequence[Picture]
    """That go for it: some, if they are many."""
    num_copies: int
    """All that go for it."""


@dataclass(frozen=True)
class Histogram:
    """How one column's values are distributed, and where the filter cuts."""

    title: str
    counts: np.ndarray
    """``(N,)`` samples per bin."""
    edges: np.ndarray
    """``(N + 1,)`` float, rising."""
    thresholds: Sequence[Threshold] = ()
    num_missing: int = 0
    """Samples without a value."""


@dataclass(frozen=True)
class Report:
    """All that a page shows."""

    title: str
    filter: str
    funnel: Funnel
    histograms: Sequence[Histogram] = ()
    galleries: Sequence[Gallery] = ()
    groups: Sequence[PicturedGroup] = ()
    """Of copies, in the order that they are shown in."""
    num_groups: int = 0
    """All that there are."""
    remarks: Sequence[str] = ()
    """What a reader should know of how it was made."""


def format_report(report: Report) -> str:
    """Write the page as HTML, complete in itself."""
    body = "".join(
        [
            *(f"<p>{html_text(remark)}</p>" for remark in report.remarks),
            f"<pre>{html_text(report.filter)}</pre>",
            _funnel(report.funnel),
            _section("Distributions", map(_histogram, report.histograms)),
            _section("Pictures", map(_gallery, report.galleries)),
            _section(_groups_title(report), map(_group, report.groups)),
        ]
    )
    return html_page(report.title, body)


def html_page(title: str, body: str) -> str:
    """Put a body into a page that loads and runs nothing.

    Args:
        title: Any text.
        body: HTML, with all text in it escaped.
    """
    title = html_text(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1080px;
       padding: 0 1rem; color: #222; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; } h3 { margin-bottom: .4rem; }
pre { background: #f4f4f4; padding: .8rem; white-space: pre-wrap; }
table { border-collapse: collapse; } td { padding: .15rem .8rem .15rem 0; }
td.count { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { width: 320px; } td.bar svg { display: block; }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; width: 124px; font-size: 11px; line-height: 1.3;
         overflow-wrap: anywhere; }
figure img { display: block; } figure .note { color: #666; }
.pair { display: inline-flex; gap: .3rem; margin: 0 1.2rem 1rem 0; }
.group { margin-bottom: 1rem; }
.group h3 { margin: 0 0 .3rem; font-size: 12px; font-weight: normal; color: #666; }
figure.stays img { outline: 3px solid #3a9d5d; outline-offset: -3px; }
.parts { display: flex; flex-wrap: wrap; column-gap: 1rem; }
.plot { width: 530px; } .plot svg { max-width: 100%; }
.gallery { width: 100%; }
svg text { font-size: 11px; fill: #555; }
.values { fill: #5b8def; } .threshold { stroke: #d33; stroke-width: 2; }
.kept { fill: #3a9d5d; } .dropped { fill: #c9605b; }
"""


def html_text(text: str, most: int | None = None) -> str:
    """Escape a text, cut to some characters."""
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    return html.escape(text, quote=True)


def _section(title: str, parts: Iterable[str]) -> str:
    content = "".join(parts)
    heading = f"<h2>{html_text(title)}</h2>"
    return f'{heading}<div class="parts">{content}</div>' if content else ""


def _funnel(funnel: Funnel) -> str:
    rows = [("samples", funnel.samples, "values")]
    rows += [(f"dropped: {reason}", n, "dropped") for reason, n in funnel.reasons.items()]
    rows.append(("kept", funnel.kept, "kept"))
    lines = "".join(
        f"<tr><td><bdi>{html_text(name)}</bdi></td>"
        f'<td class="count">{count:,}</td><td class="bar">'
        f'<svg width="320" height="12" role="img"><rect class="{kind}" height="12" '
        f'width="{320 * count / max(funnel.samples, 1):.1f}"/></svg></td></tr>'
        for name, count, kind in rows
    )
    note = "<p>A sample with several reasons counts for each.</p>"
    return f"<h2>Funnel</h2><table>{lines}</table>{note}"


def _histogram(histogram: Histogram) -> str:
    counts, edges = histogram.counts, histogram.edges
    missing = f"; {histogram.num_missing:,} have none" if histogram.num_missing else ""
    heading = f"<h3><bdi>{html_text(histogram.title)}</bdi></h3>"
    if not counts.any():
        return f'<div class="plot">{heading}<p>No sample has a value.</p></div>'
    bars = "".join(
        f'<rect class="values" x="{MARGIN + PLOT_WIDTH * n / len(counts):.1f}" '
        f'y="{MARGIN + PLOT_HEIGHT * (1 - share):.1f}" '
        f'width="{PLOT_WIDTH / len(counts) - 1:.1f}" '
        f'height="{PLOT_HEIGHT * share:.1f}"/>'
        for n, share in enumerate((counts / counts.max()).tolist())
    )
    low, high = float(edges[0]), float(edges[-1])
    lines = "".join(_cut_line(one, low, high) for one in histogram.thresholds)
    base = MARGIN + PLOT_HEIGHT + 16
    return (
        f'<div class="plot">{heading}<p>{int(counts.sum()):,} samples have a value'
        f"{missing}; the highest bar is {int(counts.max()):,}.</p>"
        f'<svg width="{PLOT_WIDTH + 2 * MARGIN}" height="{base + 8}" role="img">'
        f'{bars}{lines}<text x="{MARGIN}" y="{base}">{low:.4g}</text>'
        f'<text x="{MARGIN + PLOT_WIDTH}" y="{base}" text-anchor="end">{high:.4g}</text>'
        "</svg></div>"
    )


def _cut_line(threshold: Threshold, low: float, high: float) -> str:
    """Draw a threshold; one beyond the values stands at the edge that it is beyond."""
    share = float(np.clip((threshold.value - low) / max(high - low, 1e-12), 0, 1))
    x = MARGIN + PLOT_WIDTH * share
    anchor = "start" if share < 0.5 else "end"
    return (
        f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN - 6}" '
        f'y2="{MARGIN + PLOT_HEIGHT}"/><text x="{x:.1f}" y="{MARGIN - 10}" '
        f'text-anchor="{anchor}">kept {html_text(threshold.operator)} {threshold.value:g}'
        "</text>"
    )


def _gallery(gallery: Gallery) -> str:
    pictures = "".join(map(_figure, gallery.pictures)) or "none"
    heading = f"<h3><bdi>{html_text(gallery.title)}</bdi></h3>"
    return f'<div class="gallery">{heading}<div class="pictures">{pictures}</div></div>'


def html_pair(pair: tuple[Picture, Picture]) -> str:
    """Show two pictures side by side."""
    return f'<div class="pair">{_figure(pair[0])}{_figure(pair[1])}</div>'


def _groups_title(report: Report) -> str:
    shown, all_ = len(report.groups), report.num_groups
    which = f"the {shown:,} largest of {all_:,} groups" if shown < all_ else "all groups"
    return f"Copies: {which}, framed what stays"


def _group(group: PicturedGroup) -> str:
    """Show a group in a row, what stays first."""
    hidden = group.num_copies - len(group.copies)
    more = f", {hidden:,} not shown" if hidden else ""
    pictures = _figure(group.stays, "stays") + "".join(map(_figure, group.copies))
    return (
        f'<div class="group"><h3>1 stays, {group.num_copies:,} '
        f"{'goes' if group.num_copies == 1 else 'go'}{more}</h3>"
        f'<div class="pictures">{pictures}</div></div>'
    )


def _figure(picture: Picture, kind: str = "picture") -> str:
    reasons = [picture.note or None]
    sheet = contact_sheet([picture.image], side=PICTURE_SIDE, reasons=reasons)
    data = base64.b64encode(sheet).decode()
    texts = (("key", picture.key), ("note", picture.note), ("caption", picture.caption))
    below = "".join(
        f'<div class="{kind}"><bdi>{html_text(text, LONGEST_TEXT)}</bdi></div>'
        for kind, text in texts
        if text
    )
    name = html_text(f"{picture.shard} {picture.key}")
    return (
        f'<figure class="{kind}" title="{name}">'
        f'<img src="data:image/jpeg;base64,{data}" alt="" '
        f'width="{PICTURE_SIDE}" height="{PICTURE_SIDE}">{below}</figure>'
    )
