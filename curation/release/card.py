"""The data card of a release: what is in it, for people, as Markdown.

What only people know (licences, personal data, whom to ask) is in the recipe's ``card``;
what is left out there may be filled in here: the card's header and its last section are all
of a release that may be edited.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curation.markdown import markdown_block, markdown_code, markdown_text
from curation.release.distributions import QUANTILES, Distributions
from curation.release.manifest import Manifest

TO_FILL_IN = "_to be filled in_"
MOST_SOURCES = 20  # named one by one


def format_card(manifest: Manifest, found: Distributions) -> str:
    """Write the card.

    Args:
        manifest: Of the release, with its tars.
        found: Of its samples.

    Returns:
        Markdown with a header as model hubs read it.
    """
    sections = [
        _head(manifest),
        _what(manifest),
        _origin(manifest),
        _funnel(manifest),
        _distributions(found),
        _limits(manifest),
        _by_people(manifest),
    ]
    return "\n".join(sections)


_OPEN_SECTION = "## Licence and use"


def fixed_part(card: str) -> str:
    """Give a card without its header and its last section, which people may edit.

    Line ends and blanks at the ends of lines, which editors change by themselves, are left
    out too.
    """
    text = "\n".join(line.rstrip() for line in card.splitlines())
    _, _, rest = text.removeprefix("---\n").partition("\n---\n")
    return rest.partition(f"\n{_OPEN_SECTION}")[0].strip()


def _head(manifest: Manifest) -> str:
    return f"""---
pretty_name: {json.dumps(manifest.name)}
{_licence(manifest)}
task_categories: [text-to-image, image-to-text]
tags: [webdataset]
configs:
- config_name: default
  data_files: "*.tar"
---

# {manifest.name}
"""


_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""As model hubs name licences: ``cc-by-4.0``."""


def _licence(manifest: Manifest) -> str:
    """Give the licence of the collection as the header has it."""
    licence = _told(manifest).get("licence")
    if licence and _IDENTIFIER.fullmatch(licence.lower()):
        return f"license: {licence.lower()}"
    named = f"\nlicense_name: {json.dumps(licence, ensure_ascii=False)}" if licence else ""
    return f"license: other{named}"


def _told(manifest: Manifest) -> Mapping[str, str | None]:
    """Give the recipe's own words for the card; releases of before had none."""
    told: Mapping[str, str | None] = manifest.recipe.get("card") or {}
    return told


def _what(manifest: Manifest) -> str:
    previous = manifest.previous or "none: it is the first of its series"
    rows = [
        ("samples", f"{manifest.num_samples:,}"),
        ("of these, repeats of others", f"{manifest.num_repeats:,}"),
        ("tars", f"{len(manifest.shards):,}"),
        ("created", manifest.created),
        ("continues", previous),
        ("keys", str(manifest.packing["keys"])),
    ]
    return f"""Images with captions in WebDataset tars. Beside each tar are its `.idx` for
DALI and a Parquet table with a row per sample, in the order of the tar: key, place in the
raw shards (`source_shard`, `source_key`, `source_ranges`), image facts, scores, caption.
`manifest.json` has the size and the sha256 of every file; `curate verify` checks them.

{_table(("", ""), rows)}
"""


def _origin(manifest: Manifest) -> str:
    recipe, sources = manifest.recipe, sorted(manifest.sources)
    listed = "".join(f"\n- {markdown_code(shard)}" for shard in sources[:MOST_SOURCES])
    if len(sources) > MOST_SOURCES:
        listed += f"\n- … {len(sources) - MOST_SOURCES:,} more, all in `manifest.json`"
    return f"""## From where

{len(sources):,} raw shards under {markdown_code(recipe["source"])}:
{listed}

Embedded by:

{markdown_block(json.dumps(manifest.encoder, indent=1, ensure_ascii=False), "json")}
"""


def _funnel(manifest: Manifest) -> str:
    recipe = manifest.recipe
    text = f"""## How samples were selected

Kept if

{markdown_block(recipe["filter"])}

Copies: {markdown_code(json.dumps(recipe["duplicates"]))}.
{_query(recipe["release"])}"""
    if manifest.funnel is None:
        return text
    rows = [("samples in", f"{manifest.funnel['samples']:,}")]
    rows += [
        (f"dropped: {markdown_text(reason)}", f"{count:,}")
        for reason, count in manifest.funnel["reasons"].items()
    ]
    rows += [("kept", f"{manifest.funnel['kept']:,}")]
    rows += [("released", f"{manifest.num_samples:,}")]
    return (
        f"{text}\n{_table(('', 'samples'), rows)}\n\nA sample may have several reasons.\n"
    )


def _query(settings: Mapping[str, Any]) -> str:
    """Say which kept samples are released, and how often; nothing if all are, once."""
    text = ""
    if settings.get("where", "true") != "true":
        text += f"\nReleased of what was kept, if\n\n{markdown_block(settings['where'])}\n"
    if rules := settings.get("repeats"):
        rows = [(_code(rule), f"{copies:,}") for rule, copies in rules.items()]
        heads = ("released several times if (the first that is true)", "times")
        text += f"\n{_table(heads, rows)}\n"
    return text


def _distributions(found: Distributions) -> str:
    heads = [f"{q:.0%}" if 0 < q < 1 else ("least", "most")[int(q)] for q in QUANTILES]
    rows = [
        (_code(name), *(f"{value:.4g}" for value in values))
        for name, values in found.quantiles.items()
    ]
    formats = [(_code(name), f"{count:,}") for name, count in found.formats.items()]
    return f"""## Distributions

{_table(("column", *heads), rows)}

{_table(("format", "samples"), formats)}
"""


def _limits(manifest: Manifest) -> str:
    told = "".join([f"- {markdown_text(warning)}.\n" for warning in manifest.warnings])
    return f"""## Known limits

- Scores are opinions of models that err. A threshold keeps some bad samples and drops some
  good ones.
- Copies are found only as far as the settings above say.
- Captions are those of the source. Nobody checked that they are true, or free of personal
  data.
- {manifest.taken_down:,} samples were taken down at someone's wish, and are in no later
  release. Earlier releases still have them: delete those.
{told}"""


_ASKED = {
    "image_licence": "licence of the images",
    "caption_licence": "licence of the captions",
    "licence": "licence of this collection",
    "personal_data": "personal data",
    "intended_use": "intended use",
    "unintended_use": "use that is not intended",
    "contact": "whom to ask",
    "takedown": "how to have a sample taken down",
}
"""The settings of the recipe's ``card``, as questions."""


def _by_people(manifest: Manifest) -> str:
    told = _told(manifest)
    rows = [(asked, _cell(told.get(n) or TO_FILL_IN)) for n, asked in _ASKED.items()]
    table = _table(("", ""), rows)
    return f"{_OPEN_SECTION}\n\n{table}\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    return markdown_code(text, in_table=True)


def _cell(text: str) -> str:
    """Put what the recipe's author wrote, as Markdown, into a cell."""
    return " ".join(text.replace("|", "\\|").split())
