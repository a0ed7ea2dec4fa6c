"""The flat names of the package."""

import pytest

import curation


@pytest.mark.parametrize("name", curation.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(curation, name).__name__ == name
    assert name in dir(curation)


def test_any_other_name_is_not() -> None:
    with pytest.raises(AttributeError, match="nonesuch"):
        curation.nonesuch  # noqa: B018
