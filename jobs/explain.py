"""Everything known of one sample, from its bytes in the raw shard to where it went."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.copy_groups import CopyGroup, group_of
from curation.errors import NotFoundError, StaleError, UnknownNameError
from curation.index import read_catalog
from curation.recipe import Recipe
from curation.release.takedowns import read_takedowns
from curation.storage import Storage, open_storage
from curation.tables import EMBEDDING
from curation_assets.current_tables import CurrentTables
from curation_assets.lineage import Lineage
from curation_assets.partitions import list_shards, tar_path


@dataclass(frozen=True)
class Story:
    """What is known of one sample; what was not made yet is empty."""

    shard: str
    key: str
    url: str
    """Of the raw tar."""
    components: list[dict[str, Any]]
    """``name``, ``start`` and ``size`` of each, in the raw tar."""
    facts: dict[str, Any]
    scores: dict[str, float | None]
    group: CopyGroup | None
    """The copies that it is one of, whether it stays or goes; None if it is alone."""
    kept: bool | None
    reasons: list[str]
    filtered_url: str | None
    """The filtered tar that it went into."""
    taken_down: dict[str, str] | None
    """The release that it was taken down from and its key there, or those of a sample with
    the same image: no release may hold it again."""

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def explain(
    recipe: Recipe, key: str, shards: Sequence[str], known: Sequence[str] | None = None
) -> list[Story]:
    """Tell the story of every sample that has a key.

    Args:
        recipe: Under which it was curated.
        key: The sample's key; samples of several shards may have it.
        shards: Where to look for it.
        known: All shards that may have copies of it; by default ``shards``.

    Raises:
        UnknownNameError: No shard has been embedded that has such a sample.
    """
    reader = _Reader(recipe, shards if known is None else known)
    stories = [
        reader.story(shard, key, row, nth)
        for shard in shards
        for nth, row in enumerate(reader.rows(shard, key))
    ]
    if not stories:
        known = [k for shard in shards[:20] for k in reader.keys(shard)]
        raise UnknownNameError.among("sample with the key", key, known)
    return stories


class _Reader:
    """Reads the rows of one sample out of every table."""

    def __init__(self, recipe: Recipe, known: Sequence[str]) -> None:
        self.known = known
        self.source = open_storage(recipe.source, recipe.s3)
        self.output: Storage = open_storage(recipe.output, recipe.s3)
        self.artifacts = Lineage(recipe).artifacts
        tars = list_shards(self.source, may_be_empty=True)
        self.current = CurrentTables(Lineage(recipe), self.output, tars)
        self.takedowns = read_takedowns(self.output)

    def keys(self, shard: str) -> list[str]:
        table = self._table("embeddings", shard, ["key"])
        return [] if table is None else list(table["key"].to_pylist())

    def rows(self, shard: str, key: str) -> Iterator[dict[str, Any]]:
        if key in self.keys(shard):
            table = self.current.read("embeddings", shard)
            row = table.filter(pc.equal(table["key"], key)).drop_columns([EMBEDDING])
            yield from row.to_pylist()

    def story(self, shard: str, key: str, facts: dict[str, Any], nth: int) -> Story:
        """Tell of the sample that is the ``nth`` of its key in the shard, from 0."""
        path = self.artifacts
        scores = self._row("scores", shard, key, nth) or {}
        decision = self._row("selection", shard, key, nth) or {}
        went = decision.get("kept") and self._row("filtered_shard", shard, key, 0, ["key"])
        return Story(
            shard=shard,
            key=key,
            url=f"{self.source.url}/{tar_path(shard)}",
            components=self._components(shard, key, nth),
            facts={name: value for name, value in facts.items() if name != "key"},
            scores={name: value for name, value in scores.items() if name != "key"},
            group=group_of(self._duplicates, shard, key),
            kept=decision.get("kept"),
            reasons=decision.get("reasons", []),
            filtered_url=f"{self.output.url}/{path.filtered_tar(shard)}" if went else None,
            taken_down=self._taken_down(shard, key, facts.get("sha256")),
        )

    def _taken_down(
        self, shard: str, key: str, sha256: str | None
    ) -> dict[str, str] | None:
        table = self.takedowns
        named = pc.and_(
            pc.equal(table["source_shard"], shard), pc.equal(table["source_key"], key)
        )
        same_image = pc.equal(table["sha256"], pa.scalar(sha256, pa.string()))
        rows = table.filter(pc.or_(named, same_image.fill_null(False))).to_pylist()
        if not rows:
            return None
        return {"release": rows[0]["release"], "key": rows[0]["release_key"]}

    def _components(self, shard: str, key: str, nth: int) -> list[dict[str, Any]]:
        rows = read_catalog(self.output, self.artifacts.catalog(shard)).components
        own = rows.filter(pc.equal(rows["key"], key))
        sample = pc.unique(own["sample"])[nth]
        own = own.filter(pc.equal(own["sample"], sample))
        table = own.select(["name", "data_start", "size"])
        return list(table.rename_columns(["name", "start", "size"]).to_pylist())

    @cached_property
    def _duplicates(self) -> dict[str, pa.Table]:
        tables = {shard: self._table("duplicates", shard) for shard in self.known}
        return {shard: table for shard, table in tables.items() if table is not None}

    def _row(
        self,
        asset: str,
        shard: str,
        key: str,
        nth: int,
        columns: Sequence[str] | None = None,
    ) -> dict[str, Any] | None:
        table = self._table(asset, shard, columns)
        if table is None:
            return None
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["key"], key)).to_pylist()
        return rows[nth] if nth < len(rows) else None

    def _table(
        self, asset: str, shard: str, columns: Sequence[str] | None = None
    ) -> pa.Table | None:
        try:
            return self.current.read(asset, shard, columns)
        except (NotFoundError, StaleError):  # not made yet, or of something else
            return None
