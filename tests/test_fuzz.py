"""Readers of strangers' bytes give an answer or one of our errors, whatever they read."""

import pytest

from tests.fuzz import TARGETS, try_inputs


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_inputs_are_read_or_refused(target: str) -> None:
    assert try_inputs(target, 300) > 0
