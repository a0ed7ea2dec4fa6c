"""Step: facts, scores and duplicates to kept or dropped, with every reason.

Everything is joined by key. What was quarantined is dropped for that reason alone; what
was not is judged by the recipe's filter, and dropped for every conjunct that isn't true.
No image is opened and no model loaded, so that a changed threshold costs seconds.

Belongs here: the columns that a filter may name, cuts over all samples, decisions. How an
expression is read belongs in ``filters/``; what another threshold would keep, in
``preview.py``.
"""

import keyword
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.errors import InputError, TableError
from curation.filters.base import Kind
from curation.filters.expression import VALUE_MISSING, Filter
from curation.tables import DUPLICATES, SELECTION

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

QUARANTINED = "quarantined: "
"""How the reason of a sample that could not be read begins."""


@dataclass(frozen=True)
class Column:
    """A column that every filter may name."""

    kind: Kind
    meaning: str
    reads: tuple[str, ...] = ()
    """Columns of the embeddings table that it is made from; of other tables, none."""
    build: "Callable[[], pl.Expr] | None" = None
    """How it is made; None if it is one of the embeddings table's own."""


def _fact(name: str, kind: Kind, meaning: str) -> tuple[str, Column]:
    return name, Column(kind, meaning, (name,))


def _pixels() -> "pl.Expr":
    import polars as pl

    return pl.col("width").cast(pl.Int64) * pl.col("height")


def _aspect_ratio() -> "pl.Expr":
    import polars as pl

    longer = pl.max_horizontal("width", "height").cast(pl.Float64)
    return longer / pl.min_horizontal("width", "height")


def _bytes_per_pixel() -> "pl.Expr":
    import polars as pl

    return pl.col("image_bytes").cast(pl.Float64) / _pixels()


def _caption() -> "pl.Expr":
    import polars as pl

    return pl.col("caption").fill_null("")


COLUMNS: Mapping[str, Column] = dict(
    [
        _fact("key", "text", "the sample's key in its shard"),
        _fact("width", "number", "pixels, as encoded, before any EXIF rotation"),
        _fact("height", "number", "pixels, as encoded, before any EXIF rotation"),
        ("pixels", Column("number", "width * height", ("width", "height"), _pixels)),
        (
            "aspect_ratio",
            Column(
                "number",
                "the longer side over the shorter one, at least 1",
                ("width", "height"),
                _aspect_ratio,
            ),
        ),
        _fact("image_bytes", "number", "size of the encoded image, in bytes"),
        (
            "bytes_per_pixel",
            Column(
                "number",
                "image_bytes / pixels; low for images compressed hard or nearly empty",
                ("image_bytes", "width", "height"),
                _bytes_per_pixel,
            ),
        ),
        _fact("format", "text", "what the image's bytes are: jpeg, png, webp …"),
        _fact("image_extension", "text", "the image component's extension, as written"),
        _fact("sha256", "text", "of the encoded image, in hex"),
        _fact("sharpness", "number", "variance of the Laplacian; below 100 looks blurred"),
        _fact("brightness", "number", "mean of the gray image, 0 to 1"),
        _fact("entropy", "number", "of the gray image's histogram, in bits, 0 to 8"),
        _fact("caption", "text", "the .txt component; missing where there is none"),
        (
            "caption_words",
            Column(
                "number",
                "words of the caption; 0 where there is none",
                ("caption",),
                lambda: _caption().str.count_matches(r"\S+"),
            ),
        ),
        (
            "caption_characters",
            Column(
                "number",
                "Unicode code points of the caption; 0 where there is none",
                ("caption",),
                lambda: _caption().str.len_chars(),
            ),
        ),
        (
            "has_caption",
            Column(
                "flag",
                "there is a caption with more than white space in it",
                ("caption",),
                lambda: _caption().str.contains(r"\S"),
            ),
        ),
        ("metadata", Column("json", "the .json component: metadata.field", ("metadata",))),
        ("is_duplicate", Column("flag", "another sample is kept in its place")),
        ("duplicate_kind", Column("text", "exact, perceptual or semantic")),
        ("duplicate_similarity", Column("number", "to the sample kept in its place")),
    ]
)
"""Every column but scores, in the order of the README's table.

Facts are missing for none but quarantined samples, which no filter sees. A field of the
metadata is missing where a sample has no such field, no metadata, or no valid JSON, be it
in some shards only.
"""


def available_columns(scores: Collection[str] = ()) -> dict[str, Kind]:
    """Give the columns that a recipe's filter may name, with their kinds.

    ``make_filter(recipe.filter).check(available_columns(recipe.classifiers))`` checks a
    recipe before anything runs.

    Args:
        scores: The names of the recipe's classifiers, each a column of numbers.

    Raises:
        InputError: A classifier's name can't be a column's, or is one already.
    """
    known: dict[str, Kind] = {name: column.kind for name, column in COLUMNS.items()}
    for name in scores:
        if name in known or name in ("error", "corruption"):
            raise InputError(
                f"classifiers.{name}: there is a column {name} already; name it otherwise"
            )
        if not name.isidentifier() or keyword.iskeyword(name) or name in _WORDS:
            raise InputError(
                f"classifiers.{name}: expected a name of letters, digits and _, so that "
                "the filter can name it"
            )
        known[name] = "number"
    return known


_WORDS = ("true", "false", "null")


def needed_facts(filter_: Filter) -> list[str]:
    """Name the columns of the embeddings table that a selection reads.

    Reading just these is what makes deciding cheap: never the vectors, and captions and
    metadata only where the filter is about them.
    """
    read = {
        fact for name in filter_.columns if name in COLUMNS for fact in COLUMNS[name].reads
    }
    return ["key", "error", *sorted(read - {"key"})]


def needed_scores(filter_: Filter) -> list[str]:
    """Name the columns of the scores table that a selection reads."""
    return ["key", *sorted(filter_.columns - set(COLUMNS))]


def select_samples(
    facts: pa.Table, scores: pa.Table, duplicates: pa.Table, filter_: Filter
) -> pa.Table:
    """Decide about the samples of one shard.

    Args:
        facts: The shard's embeddings table, or :func:`needed_facts` of it.
        scores: Its scores table, or :func:`needed_scores` of it; rows in any order.
        duplicates: Its duplicates table.
        filter_: With its cuts bound, if it has any.

    Returns:
        A table of :data:`curation.tables.SELECTION`, one row per row of ``facts``, in its
        order.

    Raises:
        UnknownNameError: The filter names a column that isn't there.
        InputError: The filter does not fit the columns, or has cuts that aren't bound.
        TableError: A sample has no scores, or two have the same key.
    """
    import polars as pl

    live = judged_samples(facts, scores, duplicates, filter_)
    truths = conjunct_values(live, filter_)
    reasons = pl.concat_list(
        [_reason(f"{i}", part.text) for i, part in enumerate(filter_.conjuncts)]
    )
    judged = live.select("key").hstack(truths).select("key", reasons=reasons)
    rows = pl.from_arrow(facts.select(["key", "error"])).with_row_index("row")  # type: ignore[union-attr]
    quarantined = rows.filter(pl.col("error").is_not_null())
    both = pl.concat(
        [
            judged.with_columns(row=rows.filter(pl.col("error").is_null())["row"]),
            quarantined.select(
                "key", pl.concat_list(QUARANTINED + pl.col("error")).alias("reasons"), "row"
            ),
        ]
    ).sort("row")
    dropped = both["reasons"].list.drop_nulls()
    table = both.select("key").with_columns(kept=dropped.list.len() == 0, reasons=dropped)
    return table.to_arrow().cast(pa.schema(SELECTION.columns))


PASSES_FILTER = "passes_filter"
"""What of a group of copies can be preferred by: that the filter keeps the sample."""


def passes_filter(facts: pa.Table, scores: pa.Table, filter_: Filter) -> pa.ChunkedArray:
    """Tell which samples of a shard the filter would keep, were none of them a copy.

    Args:
        facts: As for :func:`select_samples`.
        scores: As for :func:`select_samples`.
        filter_: Without cuts, which are found when copies are known.

    Returns:
        bool, one per row of ``facts``; false for what is quarantined.

    Raises:
        UnknownNameError, InputError, TableError: As :func:`select_samples`.
    """
    no_copies = pa.schema(DUPLICATES.columns).empty_table()
    return select_samples(facts, scores, no_copies, filter_)["kept"]


def judged_samples(
    facts: pa.Table, scores: pa.Table, duplicates: pa.Table, filter_: Filter
) -> "pl.DataFrame":
    """Put together the columns that a filter names, for all but quarantined samples.

    Args:
        facts: As for :func:`select_samples`.
        scores: As for :func:`select_samples`.
        duplicates: As for :func:`select_samples`.
        filter_: Decides which columns are needed.

    Returns:
        ``key`` and the columns, one row per sample that was not quarantined, in order.

    Raises:
        UnknownNameError, InputError, TableError: As :func:`select_samples`.
    """
    import polars as pl

    filter_.check(available_columns([c for c in scores.column_names if c != "key"]))
    frame = _frame(facts, needed_facts(filter_)).filter(pl.col("error").is_null())
    if frame["key"].n_unique() < len(frame):
        twice = frame.filter(pl.col("key").is_duplicated())["key"][0]
        raise TableError(f"two samples of the shard have the key {twice!r}")
    frame = _with_scores(frame, _frame(scores, needed_scores(filter_)))
    if DUPLICATE_COLUMNS & filter_.columns:
        frame = _with_duplicates(frame, duplicates)
    derived = {
        name: column.build()
        for name, column in COLUMNS.items()
        if column.build is not None and name in filter_.columns
    }
    return frame.with_columns(**derived)


DUPLICATE_COLUMNS = frozenset({"is_duplicate", "duplicate_kind", "duplicate_similarity"})
"""Those that are made from the duplicates table."""


def find_cuts(
    filter_: Filter, samples: Iterable["pl.DataFrame"]
) -> dict[str, float | None]:
    """Find the values of a filter's cuts, over the samples of all shards.

    Exact, not a sketch: one float64 per sample and cut is held, 8 MB for a million.

    Args:
        filter_: The filter.
        samples: :func:`judged_samples` of every shard.

    Returns:
        What :meth:`~curation.filters.Filter.bind` takes: for ``top_fraction(x, f)`` of N
        samples that have an x, the x of the one in place ``ceil(f * N)`` from the top, for
        ``bottom_fraction`` from the bottom, for ``percentile`` NumPy's; None where no
        sample has one.
    """
    import numpy as np

    parts: dict[str, list[np.ndarray]] = {cut.text: [] for cut in filter_.cuts}
    for frame in samples:
        values = frame.select(**filter_.cut_arguments(judged_schema(frame)))
        for name in parts:
            parts[name].append(values[name].drop_nulls().to_numpy())
    return {
        cut.text: _cut_value(cut.name, cut.share, np.concatenate(parts[cut.text]))
        if parts[cut.text]
        else None
        for cut in filter_.cuts
    }


def judged_schema(frame: "pl.DataFrame") -> dict[str, Kind]:
    """Give the columns that a filter may name in what :func:`judged_samples` gives."""
    return available_columns([c for c in frame.columns if c not in {*COLUMNS, "error"}])


def conjunct_values(frame: "pl.DataFrame", filter_: Filter) -> "pl.DataFrame":
    """Compute each conjunct of a filter.

    Args:
        frame: What :func:`judged_samples` gives.
        filter_: With its cuts bound, if it has any.

    Returns:
        Columns ``0``, ``1`` … in the order of the conjuncts, of true, false, and null
        where a value is missing.
    """
    conjuncts = filter_.expressions(judged_schema(frame))
    named = {f"{number}": value for number, value in enumerate(conjuncts)}
    return frame.with_columns(**named).select(*named)


def count_reasons(selections: Iterable[pa.Table]) -> dict[str, int]:
    """Count how many samples each reason applies to, the most frequent first.

    A sample with two reasons counts for both. All quarantined samples are one reason.
    """
    import polars as pl

    tables = [_frame(table, ["reasons"]) for table in selections]
    if not tables:
        return {}
    reasons = pl.concat(tables)["reasons"].explode().drop_nulls()
    named = pl.when(reasons.str.starts_with(QUARANTINED)).then(pl.lit("quarantined"))
    counts = (
        pl.select(reason=named.otherwise(reasons))
        .group_by("reason")
        .len()
        .sort(["len", "reason"], descending=[True, False])
    )
    return dict(counts.iter_rows())


def explain_empty(num_samples: int, counts: Mapping[str, int]) -> str | None:
    """Say why a selection kept nothing, or None if it was never given a sample.

    Args:
        num_samples: How many samples there are, none of which is kept.
        counts: What :func:`count_reasons` gives.
    """
    if not num_samples or not counts:
        return None
    reason, count = next(iter(counts.items()))
    return (
        f"none of {num_samples:,} samples is kept; the most, {count:,}, were dropped by: "
        f"{reason}"
    )


def _frame(table: pa.Table, columns: list[str]) -> "pl.DataFrame":
    import polars as pl

    frame = pl.from_arrow(table.select(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _with_scores(frame: "pl.DataFrame", scores: "pl.DataFrame") -> "pl.DataFrame":
    if scores.columns == ["key"]:
        return frame
    # a key that repeats is quarantined after the first, which is the one with a vector
    scores = scores.unique("key", keep="first", maintain_order=True)
    missing = frame.join(scores, on="key", how="anti")
    if len(missing):
        raise TableError(
            f"{len(missing)} of {len(frame)} samples are not in the scores table, first "
            f"{missing['key'][0]!r}; it was made from other embeddings, make it again"
        )
    return frame.join(scores, on="key", how="left", maintain_order="left")


def _with_duplicates(frame: "pl.DataFrame", duplicates: pa.Table) -> "pl.DataFrame":
    import polars as pl

    found = _frame(duplicates, ["key", "kind", "similarity"]).select(
        "key",
        is_duplicate=pl.lit(True),
        duplicate_kind=pl.col("kind"),
        duplicate_similarity=pl.col("similarity"),
    )
    joined = frame.join(
        found.unique("key", keep="first", maintain_order=True),
        on="key",
        how="left",
        maintain_order="left",
    )
    return joined.with_columns(pl.col("is_duplicate").fill_null(False))


def _reason(name: str, text: str) -> "pl.Expr":
    import polars as pl

    value = pl.col(name)
    missing = pl.when(value.is_null()).then(pl.lit(text + VALUE_MISSING))
    return pl.when(value).then(None).otherwise(missing.otherwise(pl.lit(text)))


def _cut_value(name: str, share: float, values: "np.ndarray") -> float | None:
    import math

    import numpy as np

    if not len(values):
        return None
    if name == "percentile":
        return float(np.percentile(values, share))
    # 0.55 of 100 is 55, which floats would make 55.00000000000001 and so 56
    place = math.ceil(Fraction(repr(share)) * len(values))  # from 1
    place = len(values) - place if name == "top_fraction" else place - 1
    return float(np.partition(values, place)[place])
