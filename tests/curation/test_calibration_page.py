"""The page has every share that was measured, and text only as text."""

import pyarrow as pa

from curation.calibration_page import (
    CalibrationPage,
    format_calibration,
    mean_share,
    shares_of,
)
from curation.report import Picture
from tests.curation.test_report import HOSTILE, Page, png

ROWS = [
    ("semantic", 0.9, None, 6, 1),
    ("semantic", 0.95, None, 6, 0),
    ("semantic", 0.9, "gray", 4, 2),
    ("semantic", 0.95, "gray", 4, 1),
    ("semantic", 0.9, "mirrored", 4, 4),
    ("semantic", 0.95, "mirrored", 4, 3),
]


def table() -> pa.Table:
    names = ("method", "threshold", "edit", "pairs", "caught")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in ROWS])


def test_edits_are_sorted_by_what_is_caught_and_different_images_come_last() -> None:
    rows = shares_of(table(), "semantic")
    assert [row.edit for row in rows] == ["mirrored", "gray", None]
    assert rows[1].shares == [0.5, 0.25]
    assert (rows[2].counts, rows[2].pairs) == ([1, 0], 6)
    assert mean_share(rows) == [0.75, 0.5]


def test_text_of_the_dataset_is_shown_as_text() -> None:
    picture = Picture(HOSTILE[0], HOSTILE[1], png(), HOSTILE[2])
    measured = pa.concat_tables(
        [
            table().set_column(0, "method", pa.array([method] * 6))
            for method in ("semantic", "perceptual", "exact")
        ]
    )
    page = CalibrationPage(HOSTILE[3], [HOSTILE[4]], measured, [(picture, picture)])
    read = Page(format_calibration(page))
    assert not {"script", "iframe"} & set(read.elements)
    assert not any(name.startswith("on") for name, _ in read.attributes)
    assert HOSTILE[1] in "".join(read.texts)
    assert "50%" in read.texts
