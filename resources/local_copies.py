"""Local copies of remote tars as a Dagster resource."""

import os
from pathlib import Path

import dagster as dg

from curation.storage import LocalCopies


class LocalCopiesResource(dg.ConfigurableResource[LocalCopies]):
    """A folder on a local disk, of bounded size; nothing is made before it is used."""

    gigabytes: float
    """10^9 bytes."""
    folder: str | None = None
    """By default ``curation`` in the user's cache folder (XDG)."""

    def create_resource(self, context: dg.InitResourceContext) -> LocalCopies:
        """Say where copies go."""
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(self.folder) if self.folder else Path(cache) / "curation"
        return LocalCopies(folder, int(self.gigabytes * 1e9))
