"""Where copies go, and how much of them."""

from pathlib import Path

import dagster as dg
import pytest

from curation.storage import LocalCopies
from resources.local_copies import LocalCopiesResource


def made(**settings: object) -> LocalCopies:
    resource = LocalCopiesResource(**settings)  # type: ignore[arg-type]
    return resource.create_resource(dg.build_init_resource_context())


def test_copies_go_to_the_users_cache_folder_or_where_the_recipe_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert made(gigabytes=1.5) == LocalCopies(Path("/cache/curation"), 1_500_000_000)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert made(gigabytes=0) == LocalCopies(Path("/home/me/.cache/curation"), 0)
    assert made(gigabytes=0, folder="/scratch").folder == Path("/scratch")
