"""Names and captions that would steer a terminal, in every command that prints any."""

import io
import re
import tarfile
from pathlib import Path

import pytest

from curation.testing.pictures import encode, make_picture
from jobs.cli import main
from tests.conftest import _home

KEY = "k\x1b[2J\x1b]0;title\x07\u202e"
SHARD = "zz"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


RECIPE = """\
name: hostile
source: raw
output: out
encoder: {precision: fp32}
filter: caption_words >= 1
machine: {device: cpu, workers: 1}
"""


def save_shards(folder: Path) -> None:
    """Save a tar whose names, keys, captions and metadata steer, and one that is none."""
    folder.mkdir()
    with tarfile.open(folder / f"{SHARD}.tar", "w") as tar:
        for number in range(2):
            image = encode(make_picture(seed=number), "JPEG")
            for extension, data in [
                ("jpg", image if number == 0 else b"\x1b[2J no image"),
                ("txt", "a \x1b[5mcaption\x9b0m\u202e".encode()),
                ("json", b'{"a": "\\u001b[1m"}'),
                ("\x1b[1mx", b"?"),
            ]:
                header = tarfile.TarInfo(f"{number}{KEY}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("lost\x1b[2J"))
    (folder / f"{SHARD}cut.tar").write_bytes(b"<html>\x1b[2J" * 200)


@pytest.mark.slow  # twenty commands, of which some embed or release
def test_no_command_lets_a_name_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(_home(tmp_path)))
    monkeypatch.setenv("COLUMNS", "300")
    save_shards(tmp_path / "raw")
    recipe = tmp_path / "hostile.yaml"
    recipe.write_text(RECIPE)
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("hostile", "other").replace(">= 1", ">= 9"))
    commands = [
        ["run"],
        ["status"],
        ["explain", f"0{KEY}"],
        ["explain", f"1{KEY}"],
        ["explain", "unknown"],
        ["preview"],
        ["report"],
        ["keys", str(tmp_path / "keys.npy")],
        ["release"],
        ["costs"],
        ["doctor"],
        ["prune"],
        ["export", "npy", str(tmp_path / "npy")],
        ["run", "--shards", SHARD],
        ["run", "--shards", "no\x1b[31m"],
    ]
    shown = [_printed(capfd, *command, "--recipe", str(recipe)) for command in commands] + [
        _printed(capfd, "diff", str(recipe), str(other)),
        _printed(capfd, "index", str(tmp_path / "raw" / f"{SHARD}.tar")),
        _printed(capfd, "index", str(tmp_path / "raw" / f"{SHARD}cut.tar")),
        _printed(capfd, "verify", str(tmp_path / "out" / "filtered" / "hostile")),
        _printed(capfd, "import", "images", str(tmp_path / "raw"), str(tmp_path / "in")),
    ]
    for text in shown:
        assert not STEERING.findall(text)
    everything = "".join(shown)
    assert "k\\x1b[2J\\x1b]0;title\\x07\\u202e" in everything.replace("\n", "")
    assert "\\x1b[5mcaption\\x9b0m\\u202e" in everything.replace("\n", "")


def _printed(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(arguments)
    return "".join(capfd.readouterr())
