"""The recipe's classifiers as a Dagster resource."""

from typing import Any

import dagster as dg

from curation.classifiers import Classifier, make_classifiers


class ClassifiersResource(dg.ConfigurableResource[dict[str, Classifier]]):
    """By column name; nothing is read until they score."""

    classifiers: dict[str, dict[str, Any]]

    def create_resource(self, context: dg.InitResourceContext) -> dict[str, Classifier]:
        """Make the core's classifiers."""
        return make_classifiers(self.classifiers)
