"""Running sub-commands."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.cli import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``curate`` with arguments; give the exit code and standard output."""

    def run_command(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capfd.readouterr().out

    return run_command


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """Run ``curate`` with ``--json``; give what it says."""

    def run_command(*arguments: object, code: int = 0) -> Any:
        ended, out = run(*arguments, "--json")
        assert ended == code
        return json.loads(out)

    return run_command
