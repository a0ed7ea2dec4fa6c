"""DataComp's basic filter: captions that say something, images that show something."""

from dataclasses import dataclass
from typing import ClassVar

from curation.filters.base import ReadyMade


@dataclass(frozen=True)
class DataCompBasic(ReadyMade):
    """``datacomp_basic()``: the size rules of DataComp's "basic filtering" baseline.

    A caption of more than 2 words and more than 5 characters; an image whose shorter side
    has at least 200 pixels and whose longer side is at most 3 times as long. The baseline
    also wants English captions, which takes an optional library:
    ``datacomp_basic() and caption_language("en")``.

    Source: Gadre et al., DataComp, arXiv:2304.14108, appendix D;
    mlfoundations/datacomp, baselines/apply_filter.py, load_uids_with_basic_filter_helper.
    """

    name: ClassVar[str] = "datacomp_basic"

    @property
    def rule(self) -> str:
        return (
            "caption_words > 2 and caption_characters > 5 "
            "and min(width, height) >= 200 and aspect_ratio <= 3"
        )
