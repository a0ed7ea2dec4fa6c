"""The data card."""

from dataclasses import replace

import pytest
import yaml

from curation.recipe import CardSettings
from curation.release.card import TO_FILL_IN, format_card
from curation.release.distributions import Distributions
from curation.release.manifest import Manifest
from curation.storage import MemoryStorage
from tests.curation.release.world import numbered, released, small_recipe, write_filtered
from tests.curation.test_markdown import rendered, shown


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


TOLD = {
    "image_licence": "each its own | see\nthe source",
    "licence": "CC-BY-4.0",
    "contact": "data@example.org",
}


def test_what_the_recipe_says_is_in_the_card() -> None:
    recipe = dict(made().recipe) | {"card": TOLD}
    card = format_card(replace(made(), recipe=recipe), FOUND)
    assert "| licence of the images | each its own \\| see the source |" in card
    assert "| licence of this collection | CC-BY-4.0 |" in card
    assert "| whom to ask | data@example.org |" in card
    assert "| personal data | _to be filled in_ |" in card


@pytest.mark.parametrize(
    ("licence", "header"),
    [
        (None, {"license": "other"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        (
            'ours: "all" # of it',
            {"license": "other", "license_name": 'ours: "all" # of it'},
        ),
    ],
)
def test_the_header_is_yaml_as_model_hubs_read_it(
    licence: str | None, header: dict[str, str]
) -> None:
    recipe = dict(made().recipe) | {"card": {"licence": licence}}
    card = format_card(replace(made(), recipe=recipe), FOUND)
    found = yaml.safe_load(card.split("---\n")[1])
    assert {n: v for n, v in found.items() if n.startswith("license")} == header


def test_a_recipe_names_every_row() -> None:
    told = {name: f"about {name}" for name in CardSettings.model_fields}
    recipe = dict(made().recipe) | {"card": told}
    card = format_card(replace(made(), recipe=recipe), FOUND)
    assert TO_FILL_IN not in card
    assert all(text in card for text in told.values())


def test_many_sources_are_counted_rather_than_listed() -> None:
    sources = {f"shard {number}": "1" for number in range(1000)}
    card = format_card(replace(made(), sources=sources), FOUND)
    assert "… 980 more" in card
    assert card.count("`shard ") == 20


HOSTILE = "](javascript:x) <img src=x> `x` ```\n# a\n```\n| <script>x</script> ![](//e.x/y)"


def test_whatever_is_called_what_in_a_card_it_is_text() -> None:
    recipe = dict(made().recipe) | {
        "source": HOSTILE,
        "filter": HOSTILE,
        "duplicates": {"prefer": HOSTILE},
        "release": {"where": HOSTILE, "repeats": {HOSTILE: 2}},
    }
    manifest = replace(
        made(),
        recipe=recipe,
        encoder={"model": HOSTILE},
        sources={HOSTILE: "1"},
        funnel={"samples": 9, "kept": 6, "reasons": {HOSTILE: 3}},
        warnings=(HOSTILE,),
    )
    found = Distributions({HOSTILE: (1, 2, 3, 4, 5, 6, 7)}, {HOSTILE: 6})
    page = rendered(format_card(manifest, found).split("---\n", 2)[2])
    plain = rendered(format_card(made(), FOUND).split("---\n", 2)[2])
    assert {*page.tags} <= {*plain.tags, "table", "thead", "tbody", "tr", "th", "td"}
    assert page.tags.count("h1") == plain.tags.count("h1")
    told = " ".join(HOSTILE.split())
    assert shown(page.text).count(told) == 9  # of JSON, quotes and line ends are escaped
