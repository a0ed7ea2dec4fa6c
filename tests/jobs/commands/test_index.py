"""``curate index``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_an_index_is_written_beside_the_tar_or_elsewhere(
    curated: Curated, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    tar = curated.source.root / "00000.tar"
    told = run_json("index", tar)
    assert told[0]["samples"] == 80
    beside = tar.with_suffix(".idx").read_bytes()
    run_json("index", tar, "--out", tmp_path / "indexes")
    assert (tmp_path / "indexes" / "00000.idx").read_bytes() == beside
    assert beside == curated.output.read(curated.artifacts.index("00000"))


def test_a_damaged_tar_is_refused_or_salvaged(
    curated: Curated, run: Run, run_json: Callable[..., Any], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes((curated.source.root / "00000.tar").read_bytes()[:100_000])
    assert run("index", cut)[0] == 2
    assert not cut.with_suffix(".idx").exists()
    assert 0 < run_json("index", cut, "--salvage")[0]["samples"] < 80


def test_an_index_that_is_right_is_kept_and_a_wrong_one_replaced(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    tar = curated.source.root / "00000.tar"
    idx = tar.with_suffix(".idx")
    assert run_json("index", tar)[0]["idx"] == "written"
    ours = idx.read_bytes()
    other_order = b"\n".join([ours.splitlines()[0], *reversed(ours.splitlines()[1:])])
    idx.write_bytes(other_order)
    assert run_json("index", tar)[0]["idx"] == "was there"
    assert idx.read_bytes() == other_order
    idx.write_bytes(b"v1.2 1\njpg 512 3 a.jpg\n")
    assert run_json("index", tar)[0]["idx"] == "replaced"
    assert idx.read_bytes() == ours
