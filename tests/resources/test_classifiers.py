"""The recipe's classifiers as a resource."""

import dagster as dg
import pytest

from curation.classifiers import LinearProbe
from curation.errors import UnknownNameError
from resources.classifiers import ClassifiersResource


def test_classifiers_come_by_column_in_the_recipes_order() -> None:
    settings = {
        "mine": {"type": "linear_probe", "weights": "a"},
        "linear_probe": {"weights": "b"},
    }
    resource = ClassifiersResource(classifiers=settings)
    made = resource.create_resource(dg.build_init_resource_context())
    assert list(made) == ["mine", "linear_probe"]
    assert made["mine"] == LinearProbe(weights="a")


def test_an_unknown_kind_is_named() -> None:
    resource = ClassifiersResource(classifiers={"x": {"type": "nonesuch"}})
    with pytest.raises(UnknownNameError, match="linear_probe"):
        resource.create_resource(dg.build_init_resource_context())
