"""Signals and readers that leave, with real processes and pipes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.interruptions import Interrupted, noted_signals, stoppable, write_patiently
from tests.conftest import ROOT, Curated

CURATE = [sys.executable, "-c", "from jobs.cli import main; main()"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_which_one_it_was(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped, stoppable():
        os.kill(os.getpid(), number)
    assert (stopped.value.signal, stopped.value.exit_code) == (number, 128 + number)
    assert signal.getsignal(number) is before


def test_a_signal_that_another_handler_takes_is_noted() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with noted_signals() as noted:
        signal.signal(signal.SIGTERM, lambda *_: None)  # as Dagster does
        os.kill(os.getpid(), signal.SIGTERM)
    assert noted == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def test_writing_goes_on_when_the_reader_is_gone() -> None:
    reader, writer = os.pipe()
    with write_patiently(writer, close=True) as out:
        print("read", file=out)
        assert os.read(reader, 100) == b"read\n"
        os.close(reader)
        for _ in range(1000):
            print("into nothing" * 100, file=out, flush=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)]
)
def test_a_stopped_run_says_so_in_a_line_and_goes_on_later(
    curated: Curated, number: signal.Signals, workers: int
) -> None:
    curated.edit("workers: 1", f"workers: {workers}")
    shutil.rmtree(curated.folder / "curated" / "embeddings")
    arguments = [*CURATE, "run", "--recipe", str(curated.recipe_file)]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,  # a group of its own, as a terminal's job has
    ) as process:
        assert process.stderr
        first = process.stderr.readline()
        assert first.startswith("embeddings: ")
        os.killpg(process.pid, number)
        told = process.stderr.read().splitlines()
        assert process.wait() == 128 + number
    assert told[-1].startswith(f"stopped by {number.name}.")
    assert not [line for line in told if line.startswith((" ", "Traceback", "Stack"))]
    again = subprocess.run([*arguments, "--json"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("words", [("--help",), ("status",)])
def test_a_reader_that_leaves_changes_no_exit_code(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\nsource: raw\noutput: out\n")
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DAGSTER_HOME": ""}
    ended = subprocess.run(
        [*CURATE, *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
        text=True,
    )
    os.close(writer)
    expected = {"--help": 0, "status": 2}  # there is no tar
    assert ended.returncode == expected[words[0]], ended.stderr
    assert "BrokenPipe" not in ended.stderr
