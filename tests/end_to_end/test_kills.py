"""Whatever is killed, and when: given again, it ends as if nothing had been."""

from pathlib import Path

import pytest

from tests.end_to_end.kills import CHAIN, kill_often


@pytest.mark.slow
def test_killed_commands_end_byte_for_byte_as_if_nothing_had_been(tmp_path: Path) -> None:
    tried = kill_often(tmp_path, kills=6, seed=2, steps=CHAIN[:3])
    assert tried.faults == []
    assert {event.partition(",")[0] for event in tried.made} >= {"run", "release"}
