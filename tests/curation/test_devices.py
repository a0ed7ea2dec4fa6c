"""No two runs have one GPU, and nothing falls back to the CPU unasked."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from curation import devices
from curation.devices import claim_devices, visible_gpus
from curation.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_cuda_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(InputError, match="set it to auto"), claim_devices("cuda"):
        pass


@pytest.mark.usefixtures("no_gpu")
def test_auto_falls_back_to_one_worker_per_core() -> None:
    with claim_devices("auto") as claimed:
        assert claimed == ("cpu",) * len(os.sched_getaffinity(0))
    with claim_devices("auto", 3) as claimed:
        assert claimed == ("cpu", "cpu", "cpu")


@pytest.mark.usefixtures("two_gpus")
def test_a_run_takes_every_free_gpu(tmp_path: Path) -> None:
    with claim_devices("cuda", lock_folder=tmp_path) as claimed:
        assert claimed == ("cuda:0", "cuda:1")
    with claim_devices("auto", lock_folder=tmp_path) as claimed:
        assert claimed == ("cuda:0", "cuda:1")


@pytest.mark.usefixtures("two_gpus")
def test_no_two_runs_have_one_gpu(tmp_path: Path) -> None:
    with (
        claim_devices("cuda", 1, lock_folder=tmp_path) as first,
        claim_devices("cuda", lock_folder=tmp_path) as second,
    ):
        assert (first, second) == (("cuda:0",), ("cuda:1",))


@pytest.mark.usefixtures("two_gpus")
def test_shared_gpus_are_not_locked(tmp_path: Path) -> None:
    with (
        claim_devices("cuda", lock_folder=tmp_path),
        claim_devices("cuda", shared=True, lock_folder=tmp_path) as claimed,
    ):
        assert claimed == ("cuda:0", "cuda:1")


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are_is_an_error() -> None:
    with pytest.raises(InputError, match="has 2 GPUs"), claim_devices("cuda", 3):
        pass


@pytest.mark.usefixtures("two_gpus")
def test_a_run_waits_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.001)
    claimed: list[tuple[str, ...]] = []

    def claim() -> None:
        with claim_devices("cuda", lock_folder=tmp_path) as found:
            claimed.append(found)

    with claim_devices("cuda", lock_folder=tmp_path):
        waiting = threading.Thread(target=claim)
        waiting.start()
        assert not claimed
    waiting.join()
    assert claimed


@pytest.mark.usefixtures("two_gpus")
def test_a_killed_run_lets_go(tmp_path: Path) -> None:
    script = (
        "import os, signal, pathlib, torch\n"
        "torch.cuda.device_count = lambda: 2\n"
        "from curation.devices import claim_devices\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with claim_devices('cuda', lock_folder=folder) as found:\n"
        "    assert len(found) == 2\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert ended.returncode == -9
    with claim_devices("cuda", lock_folder=tmp_path) as claimed:
        assert len(claimed) == 2


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_has_one_name_whichever_a_process_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab12")
    assert visible_gpus() == ["3", "GPU-ab12"]
