"""Everything known of one sample, from its bytes in the raw shard to where it went."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import NotFoundError, UnknownNameError
from curation.index import read_catalog
from curation.recipe import Recipe
from curation.release.takedowns import read_takedowns
from curation.storage import Storage, open_storage
from curation.tables import (
    DUPLICATES,
    EMBEDDING,
    EMBEDDINGS,
    FILTERED,
    SCORES,
    SELECTION,
    TableKind,
    read_table,
)
from curation_assets.lineage import Lineage
from curation_assets.partitions import tar_path


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
    stands_for_it: dict[str, Any] | None
    """The sample that is kept in its place: shard, key, kind and similarity."""
    stands_for: list[dict[str, Any]]
    """The samples that it is kept in place of."""
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


def explain(recipe: Recipe, key: str, shards: Sequence[str]) -> list[Story]:
    """Tell the story of every sample that has a key.

    Args:
        recipe: Under which it was curated.
        key: The sample's key; samples of several shards may have it.
        shards: Where to look.

    Raises:
        UnknownNameError: No shard has been embedded that has such a sample.
    """
    reader = _Reader(recipe)
    stories = [
        reader.story(shard, key, row, shards)
        for shard in shards
        for row in reader.rows(shard, key)
    ]
    if not stories:
        known = [k for shard in shards[:20] for k in reader.keys(shard)]
        raise UnknownNameError.among("sample with the key", key, known)
    return stories


class _Reader:
    """Reads the rows of one sample out of every table."""

    def __init__(self, recipe: Recipe) -> None:
        self.source = open_storage(recipe.source, recipe.s3)
        self.output: Storage = open_storage(recipe.output, recipe.s3)
        self.artifacts = Lineage(recipe).artifacts
        self.takedowns = read_takedowns(self.output)

    def keys(self, shard: str) -> list[str]:
        table = self._table(self.artifacts.embeddings(shard), EMBEDDINGS, ["key"])
        return [] if table is None else list(table["key"].to_pylist())

    def rows(self, shard: str, key: str) -> Iterator[dict[str, Any]]:
        if key in self.keys(shard):
            path = self.artifacts.embeddings(shard)
            table = read_table(self.output, path, EMBEDDINGS)
            row = table.filter(pc.equal(table["key"], key)).drop_columns([EMBEDDING])
            yield from row.to_pylist()

    def story(
        self, shard: str, key: str, facts: dict[str, Any], shards: Sequence[str]
    ) -> Story:
        path = self.artifacts
        scores = self._row(path.scores(shard), SCORES, key) or {}
        decision = self._row(path.selection(shard), SELECTION, key) or {}
        went = self._row(path.filtered_table(shard), FILTERED, key, ["key"])
        return Story(
            shard=shard,
            key=key,
            url=f"{self.source.url}/{tar_path(shard)}",
            components=self._components(shard, key),
            facts={name: value for name, value in facts.items() if name != "key"},
            scores={name: value for name, value in scores.items() if name != "key"},
            stands_for_it=self._row(path.duplicates(shard), DUPLICATES, key),
            stands_for=list(self._copies(shard, key, shards)),
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

    def _components(self, shard: str, key: str) -> list[dict[str, Any]]:
        rows = read_catalog(self.output, self.artifacts.catalog(shard)).components
        own = rows.filter(pc.equal(rows["key"], key))
        table = own.select(["name", "data_start", "size"])
        return list(table.rename_columns(["name", "start", "size"]).to_pylist())

    def _copies(
        self, shard: str, key: str, shards: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        for other in shards:
            table = self._table(self.artifacts.duplicates(other), DUPLICATES)
            if table is None:
                continue
            mine = pc.and_(
                pc.equal(table["survivor_shard"], shard),
                pc.equal(table["survivor_key"], key),
            )
            for row in table.filter(mine).to_pylist():
                yield {"shard": other} | {n: row[n] for n in ("key", "kind", "similarity")}

    def _row(
        self, path: str, kind: TableKind, key: str, columns: Sequence[str] | None = None
    ) -> dict[str, Any] | None:
        table = self._table(path, kind, columns)
        if table is None:
            return None
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["key"], key)).to_pylist()
        return rows[0] if rows else None

    def _table(
        self, path: str, kind: TableKind, columns: Sequence[str] | None = None
    ) -> pa.Table | None:
        try:
            return read_table(self.output, path, kind, columns)
        except NotFoundError:  # not made yet
            return None
