"""LAION-aesthetics: pictures that the aesthetic predictor likes."""

from dataclasses import dataclass
from typing import ClassVar

from curation.filters.base import ReadyMade


@dataclass(frozen=True)
class LaionAesthetics(ReadyMade):
    """``laion_aesthetics(5)``: the aesthetic score is at least so high.

    Needs a classifier that the recipe calls ``aesthetic``. LAION published subsets from 4.5
    to 6.5: of 2.3 billion English pairs 1.2 billion have 4.5 or more, 600 million 5, 12
    million 6, 3 million 6.25. The published lists also leave out likely watermarks and
    unsafe pictures: ``laion_aesthetics(5) and metadata.pwatermark < 0.8 and
    metadata.punsafe < 0.5``, where the samples' metadata has those fields.

    Source: https://laion.ai/blog/laion-aesthetics/; LAION-AI/laion-datasets,
    laion-aesthetic.md.
    """

    name: ClassVar[str] = "laion_aesthetics"

    threshold: float = 5.0

    @property
    def rule(self) -> str:
        return f"aesthetic >= {self.threshold:g}"
