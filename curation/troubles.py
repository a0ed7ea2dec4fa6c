"""What is wrong with shards now, read from what was made of them.

Whoever made it, and whenever: nothing is asked but the files, so that a run that had
nothing to do tells what the run before it told. Of a shard without faults two footers are
read, of 10,000 shards in a few seconds; columns only where a footer says that members were
lost, or that too many samples are quarantined.

Belongs here: which losses are told, and how badly. What is compared with what a step
promises belongs in ``table_checks.py``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.artifacts import Artifacts
from curation.errors import NotFoundError, TableError
from curation.image_decoding import JUDGED_BY_PILLOW
from curation.storage.base import Storage, StoredFile
from curation.table_checks import quarantine_faults
from curation.tables import CATALOG, EMBEDDINGS, Footer, read_footer, read_table
from curation.tar_walk import AFTER_THE_END, ZEROS_AFTER_THE_END

PARALLEL_READS = 16
MOST_REASONS = 3  # for which members of one shard belong to no sample

Severity = Literal["lost", "wrong", "warning", "note"]
"""``lost``: samples could not be read. ``wrong``: what was made is not what it promises.
``warning``: a bound of the recipe is passed, or a shard is empty. ``note``: nothing is
known to be wrong, but look whether it is meant."""
SEVERITIES: tuple[Severity, ...] = ("lost", "wrong", "warning", "note")

MEND_TAR = (
    "upload the tar again, or mend it; `on_damage: salvage` uses the samples that are "
    "whole before the damage"
)
MEND_SALVAGED = "upload the tar again, or mend it: what is behind the damage is not used"
RENAME_MEMBERS = (
    "look at them in the shard's catalog under index/; a sample's members are files, not "
    "links, each with the sample's key and an extension of its own"
)
COMPARE_TAR = "compare its checksum with the original's, or upload the tar again"
LEAVE_OUT = "upload it again if it should have samples, and delete it if not"
DELETE_FILE = "delete that file and run again"
LOOK_AT_QUARANTINE = (
    "look at the reasons with `curate explain`; after a fault of the machine, `curate run "
    "--retry-quarantined` tries only those again"
)
MEND_TEXTS = (
    "write them in UTF-8, or in UTF-16 with a byte order mark; what can't be read is "
    "U+FFFD in the table, and the files' bytes travel as they are"
)
MEND_JUDGED = (
    "to have them found, delete the shard's file under embeddings/ and run again, which "
    "embeds it anew (docs/images.md)"
)
NOT_JUDGED = (
    "embedded before Pillow decided which images are good: damaged ones may be among those "
    "that are kept, and readers may stop at them"
)
NO_SAMPLES = "no samples: it is a whole tar without a file in it"


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong with one shard, or with one entry of the source."""

    shard: str
    """The shard; of what is none, the path under the source."""
    what: str
    severity: Severity
    advice: str
    """What to do."""


def find_troubles(
    output: Storage,
    artifacts: Artifacts,
    tars: Mapping[str, StoredFile],
    max_quarantined: float,
) -> list[Trouble]:
    """Find what is wrong with the shards that were made.

    A shard that was not made yet has none, nor has one whose tar was replaced since.

    Args:
        output: Where the artifacts are.
        artifacts: Their paths.
        tars: What is at the source, by shard.
        max_quarantined: Share of a shard's samples that may be quarantined, 0 to 1.

    Returns:
        The worst first, in the order of ``tars``.

    Raises:
        StorageError: A file can't be reached.
    """
    look = partial(_of_shard, output, artifacts, max_quarantined)
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        found = pool.map(look, tars.items())
        return by_severity(trouble for troubles in found for trouble in troubles)


def by_severity(troubles: Iterable[Trouble]) -> list[Trouble]:
    """Sort troubles, the worst first, and else leave them in their order."""
    return sorted(troubles, key=lambda trouble: SEVERITIES.index(trouble.severity))


def catalog_troubles(storage: Storage, path: str, shard: str) -> list[Trouble]:
    """Tell what of a tar is in no sample, going by its catalog.

    Args:
        storage: Where the catalog is.
        path: Its path there.
        shard: Whose catalog it is.

    Raises:
        NotFoundError: There is no such file.
        TableError: It can't be read.
    """
    footer = read_footer(storage, path, CATALOG, ["loss"])
    return _of_catalog(storage, path, shard, footer)


def _of_catalog(storage: Storage, path: str, shard: str, footer: Footer) -> list[Trouble]:
    if not footer.num_rows:
        return [Trouble(shard, NO_SAMPLES, "warning", LEAVE_OUT)]
    if not footer.filled["loss"]:
        return []
    columns = ["sample", "header_start", "data_start", "end", "loss"]
    return list(_losses(shard, read_table(storage, path, CATALOG, columns)))


def quarantine_troubles(
    storage: Storage, path: str, shard: str, most: float
) -> list[Trouble]:
    """Tell whether more of a shard's samples are quarantined than may be.

    Args:
        storage: Where the embeddings are.
        path: Their path there.
        shard: Whose they are.
        most: The share that may be, 0 to 1.

    Raises:
        NotFoundError: There is no such file.
        TableError: It can't be read.
    """
    footer = read_footer(storage, path, EMBEDDINGS, ["error"])
    return _of_errors(storage, path, shard, footer, most)


def _of_errors(
    storage: Storage, path: str, shard: str, footer: Footer, most: float
) -> list[Trouble]:
    num_bad = footer.filled["error"]
    if num_bad <= most * footer.num_rows:
        return []
    table = read_table(storage, path, EMBEDDINGS, ["error"])
    severity: Severity = "lost" if num_bad == footer.num_rows else "warning"
    return [
        Trouble(shard, fault, severity, LOOK_AT_QUARANTINE)
        for fault in quarantine_faults(table, most)
    ]


def embedding_notes(storage: Storage, path: str, shard: str) -> list[Trouble]:
    """Tell of texts that could not be read, and of images that 0.1.0 found good.

    Args:
        storage: Where the embeddings are.
        path: Their path there.
        shard: Whose they are.

    Raises:
        NotFoundError: There is no such file.
        TableError: It can't be read.
    """
    return _notes(shard, read_footer(storage, path, EMBEDDINGS, ["error"]))


def _notes(shard: str, footer: Footer) -> list[Trouble]:
    found = []
    counts = footer.about.get("unreadable_texts", {})
    told = [f"{name} of {count:,}" for name, count in counts.items()]
    if told:
        what = f"{' and '.join(told)} of {footer.num_rows:,} samples can't be read whole"
        found.append(Trouble(shard, what, "note", MEND_TEXTS))
    has_images = footer.filled["error"] < footer.num_rows
    if has_images and not JUDGED_BY_PILLOW.items() <= footer.about.items():
        found.append(Trouble(shard, NOT_JUDGED, "note", MEND_JUDGED))
    return found


def _of_shard(
    output: Storage, artifacts: Artifacts, most: float, item: tuple[str, StoredFile]
) -> list[Trouble]:
    shard, tar = item
    catalog, embeddings = artifacts.catalog(shard), artifacts.embeddings(shard)
    found: list[Trouble] = []
    try:
        footer = read_footer(output, catalog, CATALOG, ["loss"])
        of = footer.about.get("shard_bytes"), footer.about.get("shard_version")
        if of != (tar.size, tar.version):
            return []  # another tar's
        found += _of_catalog(output, catalog, shard, footer)
        footer = read_footer(output, embeddings, EMBEDDINGS, ["error"])
        found += _of_errors(output, embeddings, shard, footer, most)
        found += _notes(shard, footer)
    except NotFoundError:
        pass  # not made yet
    except TableError as error:
        found.append(Trouble(shard, str(error), "lost", DELETE_FILE))
    return found


def _losses(shard: str, table: pa.Table) -> Iterator[Trouble]:
    """Tell damage apart from members that belong to no sample."""
    num_samples = (pc.max(table["sample"]).as_py() + 1) if _any(table["sample"]) else 0
    lost = table.filter(table["loss"].is_valid())
    # damage is a range of bytes that no header stands before
    is_damage = pc.equal(lost["header_start"], lost["data_start"])
    left_out = lost.filter(pc.invert(is_damage))
    for row in lost.filter(is_damage).to_pylist():
        if row["loss"] == AFTER_THE_END:
            what = f"{row['end'] - row['header_start']:,} bytes after the end of the tar"
            yield Trouble(shard, what, "note", "nothing, unless they should be samples")
        elif row["loss"] == ZEROS_AFTER_THE_END:
            yield _zeros(shard, row["end"] - row["header_start"], num_samples)
        elif num_samples:
            what = (
                f"only {num_samples:,} samples could be read, nothing from byte "
                f"{row['header_start']:,} of {row['end']:,} on: {row['loss']}"
            )
            yield Trouble(shard, what, "lost", MEND_SALVAGED)
        else:
            yield Trouble(
                shard, f"no sample could be read: {row['loss']}", "lost", MEND_TAR
            )
    if left_out.num_rows:
        reasons = Counter(left_out["loss"].to_pylist()).most_common()
        told = [f"{reason} ({count:,})" for reason, count in reasons[:MOST_REASONS]]
        what = f"{left_out.num_rows:,} members belong to no sample: {'; '.join(told)}"
        severity: Severity = "note" if num_samples else "lost"
        yield Trouble(shard, what, severity, RENAME_MEMBERS)


def _zeros(shard: str, num_bytes: int, num_samples: int) -> Trouble:
    """Tell of zeros where members may have been meant to be."""
    what = f"{num_bytes:,} bytes of zeros follow {num_samples:,} samples, as in a file "
    what += "whose download or copy did not finish"
    return Trouble(shard, what, "warning" if num_samples else "lost", COMPARE_TAR)


def _any(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count < len(column))
