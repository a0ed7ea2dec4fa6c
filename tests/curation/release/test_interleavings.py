"""Whatever the order of the steps of releases and takedowns, what is published is whole."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.release import claims
from tests.curation.release.interleavings import PROCESSES, draw_from, try_order


@pytest.fixture(autouse=True, scope="module")
def no_renewals() -> None:
    """Leave holders' own threads out, which have no turn; claims last longer than tests."""
    claims.SIGN_SECONDS = 1e6


@given(
    st.lists(st.sampled_from(sorted(PROCESSES)), min_size=2, max_size=3),
    st.integers(0, 2**32),
)
def test_in_any_order_what_is_published_is_whole(names: list[str], seed: int) -> None:
    outcome = try_order(names, draw_from(random.Random(seed)))
    assert outcome.wrong == []
    assert set(outcome.told) - {"ReleaseClaimedError", "ReleaseExistsError"}


def test_one_after_the_other_all_do_what_they_should() -> None:
    names = ["release", "takedown", "release --name"]
    outcome = try_order(names, lambda _: 0)
    assert outcome.told == ["released small-0002", "taken down, small-0003", "nothing new"]
    assert outcome.wrong == []
