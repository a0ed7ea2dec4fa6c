"""DataComp's basic filter decides as its own code does."""

import pytest

from curation.filters.datacomp_basic import DataCompBasic
from curation.testing.filter_contract import ReadyMadeContract

GOOD = {"caption": "a red barn", "width": 200, "height": 600}


class TestDataCompBasic(ReadyMadeContract):
    member = DataCompBasic

    def calls(self) -> list[str]:
        return ["datacomp_basic()"]

    def wrong_calls(self) -> list[str]:
        return ["datacomp_basic(5)", "datacomp_basic('en')"]

    def kept(self) -> dict[str, object]:
        return GOOD

    def dropped(self) -> list[dict[str, object]]:
        return [
            GOOD | {"caption": "red barn"},
            GOOD | {"caption": None},
            GOOD | {"width": 199},
            GOOD | {"height": 601},
        ]


@pytest.mark.parametrize("caption", ["a b c", "a b cd", "ab cd", "a  b  c", "ü é ß ñ"])
@pytest.mark.parametrize(
    "size", [(200, 200), (200, 600), (200, 601), (199, 400), (900, 300)]
)
def test_it_keeps_what_datacomp_keeps(caption: str, size: tuple[int, int]) -> None:
    width, height = size
    # the conditions of load_uids_with_basic_filter_helper, in Python
    expected = (
        len(caption.split()) > 2
        and len(caption) > 5
        and min(width, height) >= 200
        and max(width, height) / min(width, height) <= 3.0
    )
    sample = {"caption": caption, "width": width, "height": height}
    found = TestDataCompBasic().select("datacomp_basic()", sample)
    assert (found == []) == expected
