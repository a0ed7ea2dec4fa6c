"""Hostile inputs for each reader of strangers' bytes and texts, and what may come of them.

``tests/test_fuzz.py`` tries some of each. ``python -m tests.fuzz --minutes 60`` tries as
many as it can, with other ones every time, and prints how many.
"""

import argparse
import io
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from curation.dali_index import count_extensions, parse_index
from curation.errors import (
    CurationError,
    DataError,
    IndexFormatError,
    InputError,
    ReleaseMismatchError,
    TableError,
)
from curation.filters import make_filter
from curation.image_decoding import decode_image, read_header
from curation.npy import parse_npy
from curation.recipe import load_recipe
from curation.release.claims import Holder
from curation.release.manifest import FORMAT, Manifest
from curation.testing.pictures import encoded_pictures
from curation.texts import parse_json, plain_text
from tests.curation.filters.any_expressions import texts
from tests.fuzz_files import (
    CHANGES,
    LISTS,
    TABLES,
    TARS,
    WEIGHTS,
    changed,
    read_any_weights,
    read_lists,
    read_tables,
    read_tar,
)

SCHEMA = {"width": "number", "caption": "text", "flag": "flag", "metadata": "json"}
SAMPLES = pl.DataFrame(
    {
        "width": [1, None, 3],
        "caption": ["a", None, "("],
        "flag": [True, None, False],
        "metadata": ['{"a": 1, "b": "x"}', None, '{"a": NaN}'],
    }
)
_LEAVES = (
    *("width", "caption", "flag", "metadata", "metadata.a", "metadata['b']", "nothing"),
    *("0", "-1", "1e299", "1e999", "9007199254740993", "0x" + "f" * 60, "0x" + "f" * 4000),
    *("'a'", "'('", '"""', "true", "false", "null", "[1, 2]", "\ud800", "\0", "é", "1j"),
)
_JOINED = (
    *("({} < {})", "({} != {})", "({} + {})", "({} % {})", "({} ** {})", "({} and {})"),
    *("({} or {})", "({} in {})", "({} in [{}])", "({} is {})", "default({}, {})"),
    *("min({}, {})", "matches({}, {})", "top_fraction({}, {})", "percentile({}, {})"),
    *("{} ({})", "{}[{}]", "laion_aesthetics({}, {})", "({} if {})"),
)
_AROUND = ("not {}", "-{}", "({} is null)", "number({})", "text({})", "length({})", "{}.a")
_DAMAGES = ("", "(", ")", "'", "\\", "0x", "1" * 5000, ",", "#", "\n", "(" * 300)


def _grown(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(str.format, st.sampled_from(_JOINED), parts, parts),
        st.builds(str.format, st.sampled_from(_AROUND), parts),
    )


def _with_damage(text: str, damage: str, place: float) -> str:
    at = int(place * len(text))
    return text[:at] + damage + text[at:]


_GROWN = st.recursive(st.sampled_from(_LEAVES), _grown, max_leaves=12)
FILTERS = _GROWN | st.builds(
    _with_damage, _GROWN, st.sampled_from(_DAMAGES), st.floats(0, 1)
)
FILTERS |= texts()


def read_filter(text: str) -> None:
    """A filter judges every sample, or is refused before it sees one."""
    try:
        filter_ = make_filter(text)
        filter_.check(SCHEMA)
        filter_.fingerprint()
        filter_ = filter_.bind({cut.text: 1.0 for cut in filter_.cuts})
        conjuncts = filter_.expressions(SCHEMA)
    except InputError:
        return
    names = {f"{number}": value for number, value in enumerate(conjuncts)}
    found = SAMPLES.with_columns(**names).select(*names)
    assert set(found.dtypes) == {pl.Boolean}


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _with_header(text: str) -> bytes:
    head = text.encode("latin-1", "replace")
    return b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head


_DTYPES = ("<f4", ">f8", "O", "<M8[ns]", "<i4", "f", "V9", "", "[('a','<f4')]", "\ud800")
_SIDES = ("2", "-1", "1" * 30, "True", "None", "2.0", "(" * 90, "'a'", "-0", "1e9", "()")
_HEADERS = st.builds(
    "{{'descr': '{}', 'fortran_order': {}, 'shape': ({}, {})}}\n".format,
    st.sampled_from(_DTYPES),
    st.sampled_from(("False", "True", "1", "'x'", "[]")),
    st.sampled_from(_SIDES),
    st.sampled_from(_SIDES),
)
NPYS = st.builds(changed, st.just(_saved(np.ones((2, 2), "f4"))), CHANGES) | st.builds(
    changed, _HEADERS.map(_with_header), CHANGES
)


def read_npy(data: bytes) -> None:
    """What is read is what NumPy reads; the rest is refused."""
    try:
        found = parse_npy(data, "a.npy")
    except TableError:
        return
    np.testing.assert_array_equal(found, np.load(io.BytesIO(data), allow_pickle=False))


IMAGES = st.builds(changed, st.sampled_from(sorted(encoded_pictures().values())), CHANGES)


def read_image(data: bytes) -> None:
    """An image has pixels, or a reason why not."""
    try:
        header = read_header(data)
        if header.width * header.height <= 1_000_000:
            decode_image(data, header)
    except DataError:
        return


_JSON = st.recursive(
    st.sampled_from(
        ("1", "9" * 5000, "NaN", "-Infinity", "1e999", '"\\ud800"', "null", "")
    ),
    lambda parts: st.one_of(
        st.builds("[{}, {}]".format, parts, parts),
        st.builds('{{"a": {}, "a": {}}}'.format, parts, parts),
        st.builds(lambda part, n: "[" * n + part + "]" * n, parts, st.integers(0, 20_000)),
    ),
    max_leaves=8,
)


def read_json(text: str) -> None:
    """A sample's JSON is values that can be written as a text, or none."""
    try:
        plain_text(parse_json(text))
    except ValueError:
        return


_SCALARS = (
    *("a", "9" * 5000, "0x" + "f" * 5000, "2001-99-99", "!!int ''", "!!float abc", "~"),
    *("!!bool maybe", "!!timestamp x", "!!binary '#'", "*a", "&a b", "'", "\x01", ".nan"),
    *("!!python/object/apply:os.system [x]", "1:1:1", "{<<: *a}", "&a [*a]", "\ud800"),
)
_YAML = st.recursive(
    st.sampled_from(_SCALARS),
    lambda parts: st.one_of(
        st.builds("[{}, {}]".format, parts, parts),
        st.builds("{{{}: {}}}".format, parts, parts),
        st.builds("&a [{}, *a]".format, parts),
        st.builds(lambda part, n: "[" * n + part + "]" * n, parts, st.integers(0, 2_000)),
    ),
    max_leaves=6,
)
_SETTINGS = ("name", "source", "output", "images", "filter", "classifiers", "s3", "x")
RECIPES = st.lists(st.tuples(st.sampled_from(_SETTINGS), _YAML), max_size=5).map(
    lambda pairs: "".join(f"{name}: {value}\n" for name, value in pairs)
)


def read_recipe(text: str) -> None:
    """A recipe is one, or its mistakes are told."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            load_recipe(file)
        except CurationError:
            return


MANIFESTS = st.builds(
    '{{"format": {}, "shards": {}, "documents": {}, "sha256": {}}}'.format,
    st.sampled_from((str(FORMAT), "null")),
    *[_JSON] * 3,
) | _JSON.filter(bool)


def read_release(text: str) -> None:
    """A manifest and a claim are what we wrote, or told to be something else."""
    data = text.encode("utf-8", "surrogatepass")
    Holder.from_bytes(data)
    try:
        Manifest.from_bytes(data, "MANIFEST.json")
    except ReleaseMismatchError:
        return


_INDEX = b"v1.2 2\njpg 1536 3 a.jpg 512 txt 2560 4 b.txt 2048\njpg 9216 1 c.jpg 8704\n"
INDEXES = st.builds(changed, st.just(_INDEX), CHANGES)


def read_index(data: bytes) -> None:
    """An index is read as it is written, or refused."""
    for read in (parse_index, count_extensions):
        with suppress(IndexFormatError):
            read(data, "a.tar")


TARGETS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "filters": (FILTERS, read_filter),
    "npy": (NPYS, read_npy),
    "images": (IMAGES, read_image),
    "json": (_JSON, read_json),
    "recipes": (RECIPES, read_recipe),
    "manifests": (MANIFESTS, read_release),
    "indexes": (INDEXES, read_index),
    "tars": (TARS, read_tar),
    "tables": (TABLES, read_tables),
    "lists": (LISTS, read_lists),
    "weights": (WEIGHTS, read_any_weights),
}
"""What to try, and the reader that must stand it: what else is raised is a fault."""


def try_inputs(name: str, examples: int, *, seed: int | None = None) -> int:
    """Give a target so many inputs; the same ones again if there is no seed.

    Returns:
        How many were tried.
    """
    strategy, reader = TARGETS[name]
    tried = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(strategy)
    def run(value: Any) -> None:
        nonlocal tried
        tried += 1
        reader(value)

    run()
    return tried


def main() -> None:
    """Try inputs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    end = time.monotonic() + 60 * parser.parse_args().minutes
    counts, faults = dict.fromkeys(TARGETS, 0), 0
    while time.monotonic() < end:
        for name in TARGETS:
            try:
                counts[name] += try_inputs(name, 500, seed=random.randrange(2**32))
            except Exception:  # the fault that is looked for: told, counted, gone on after
                faults += 1
                traceback.print_exc()
    for name, count in counts.items():
        print(f"{name:10} {count:10,} inputs")
    print(f"{sum(counts.values()):,} inputs of {len(TARGETS)} kinds: {faults} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
