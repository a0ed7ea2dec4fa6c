"""What changed in a recipe since something was made, in the recipe's own words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg

from curation.filters import make_filter
from curation.fingerprint import Json
from curation_assets.lineage import Lineage
from curation_assets.shard_asset import last_recorded

MOST_TOLD = 3  # settings of one asset
MOST_LOOKED_UP = 20  # code versions of one asset
FILE_CHANGED = "a file that its settings name changed"


def changed_settings(before: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """Say which settings differ, such as ``images.max_pixels 100 -> 200``.

    Of a filter, the parts that came and went are told, and not those that stayed.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return [
        _change(name, old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def changed_code(before: str, now: str) -> str | None:
    """Say that a step's code changed, going by code versions; None if it didn't."""
    old, new = (version.partition("-")[0] for version in (before, now))
    return f"its code changed from version {old} to {new}" if old != new else None


def _change(name: str, before: Json, now: Json) -> str:
    if name == "filter":
        parts = [
            [part.text for part in make_filter(str(f)).conjuncts] for f in (before, now)
        ]
        gone, came = ([p for p in parts[i] if p not in parts[1 - i]] for i in (0, 1))
        return f"filter {_joined(gone)} -> {_joined(came)}"
    return f"{name} {_shown(before)} -> {_shown(now)}"


def _joined(parts: list[str]) -> str:
    return " and ".join(parts) or "(nothing)"


def _shown(value: Json) -> str:
    return "(unset)" if value is None else str(value)


def _leaves(settings: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Json]]:
    if isinstance(settings, Mapping) and settings:
        for name, value in settings.items():
            yield from _leaves(value, (*path, name))
    elif settings != {}:
        yield ".".join(path), settings


@dataclass(frozen=True)
class RecipeChanges:
    """Looks up what changed since what is on record was made.

    Records are asked for one shard of all that were made by the same settings, so that ten
    thousand of them cost no more than one.
    """

    instance: dg.DagsterInstance
    lineage: Lineage
    _told: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """For each asset, code version to what changed since."""

    def since(
        self, asset: str, shard: str, version: str, inputs: Mapping[str, str]
    ) -> str | None:
        """Say what changed since an asset was made for a shard.

        Args:
            asset: Its name.
            shard: Of which shard.
            version: Its data version on record.
            inputs: The data versions of its inputs now.

        Returns:
            None if neither settings nor code did.
        """
        told = self._told.setdefault(asset, {})
        for then, cause in told.items():
            if self.lineage.expected(asset, inputs, then) == version:
                return cause
        if len(told) >= MOST_LOOKED_UP:
            return None
        then, settings = last_recorded(self.instance, asset, shard)
        told[then] = self._why(asset, then, settings)
        return told[then]

    def since_all(self, asset: str) -> str | None:
        """Say what changed since an asset over all shards was made."""
        return self._why(asset, *last_recorded(self.instance, asset))

    def _why(self, asset: str, then: str, settings: Mapping[str, Json]) -> str | None:
        now = self.lineage.code_version(asset)
        if then in ("", now):
            return None
        if code := changed_code(then, now):
            return code
        told = changed_settings(settings, self.lineage.recipe_settings(asset))
        more = ["…"] if len(told) > MOST_TOLD else []
        return "; ".join([*told[:MOST_TOLD], *more]) or FILE_CHANGED
