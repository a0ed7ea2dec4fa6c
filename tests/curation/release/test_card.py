"""The data card."""

from dataclasses import replace

from curation.release.card import format_card
from curation.release.distributions import Distributions
from curation.release.manifest import Manifest
from curation.storage import MemoryStorage
from tests.curation.release.world import numbered, released, small_recipe, write_filtered


def made() -> Manifest:
    output = MemoryStorage("output")
    write_filtered(output, "a", numbered(6))
    return released(output, small_recipe(), "a")


FOUND = Distributions({"width": (1, 2, 3, 4, 5, 6, 7)}, {"jpeg": 6})


def test_it_tells_the_filter_the_funnel_and_the_spread() -> None:
    funnel = {"samples": 9, "kept": 6, "reasons": {"a | b": 3}}
    card = format_card(replace(made(), funnel=funnel), FOUND)
    assert "| samples in | 9 |" in card
    assert "| dropped: a \\| b | 3 |" in card
    assert "| released | 6 |" in card
    assert "| column | least | 5% | 25% | 50% | 75% | 95% | most |" in card
    assert "| `width` | 1 | 2 | 3 | 4 | 5 | 6 | 7 |" in card
    assert "```\ntrue\n```" in card
    assert '"model": "tiny"' in card


def test_what_only_people_know_is_left_to_them() -> None:
    card = format_card(made(), FOUND)
    assert "| licence of the images | _to be filled in_ |" in card
    assert "How samples were selected" in card


def test_many_sources_are_counted_rather_than_listed() -> None:
    sources = {f"shard {number}": "1" for number in range(1000)}
    card = format_card(replace(made(), sources=sources), FOUND)
    assert "… 980 more" in card
    assert card.count("`shard ") == 20
