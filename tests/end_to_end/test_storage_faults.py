"""However a server fails or lies, what is made on it is what should be."""

from pathlib import Path

import pytest

from tests.end_to_end.storage_faults import CHAIN, fail_often
from tests.faulty_proxy import WRONG


@pytest.mark.slow
def test_on_a_faulty_server_the_same_is_made(tmp_path: Path) -> None:
    tried = fail_often(tmp_path, faults=20, seed=1, steps=CHAIN[:1], share=0.1)
    assert tried.faults == []
    assert sum(tried.made[fault] for fault in WRONG) > 5
