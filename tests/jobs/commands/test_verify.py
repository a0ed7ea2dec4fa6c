"""``curate verify``."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Curated
from tests.jobs.commands.conftest import Run


def test_what_agrees_is_said(curated: Curated, run: Run) -> None:
    code, out = run("verify", curated.output.root / "filtered")
    assert code == 0
    assert "3 shards" in out


def test_a_difference_has_its_own_exit_code(
    curated: Curated, run_json: Callable[..., Any]
) -> None:
    index = curated.artifacts.filtered_index("00000")
    curated.output.write(index, b"v1.2 0\n")
    told = run_json("verify", curated.output.root / "filtered", code=5)
    assert [difference["path"] for difference in told["differences"]] == ["small/00000.idx"]
