"""LAION-aesthetics is a threshold on the aesthetic score."""

from curation.filters.laion_aesthetics import LaionAesthetics
from curation.testing.filter_contract import ReadyMadeContract


class TestLaionAesthetics(ReadyMadeContract):
    member = LaionAesthetics
    scores = ("aesthetic",)

    def calls(self) -> list[str]:
        return ["laion_aesthetics(5)", "laion_aesthetics()", "laion_aesthetics(6.25)"]

    def wrong_calls(self) -> list[str]:
        return ["laion_aesthetics('high')", "laion_aesthetics(5, 6)"]

    def kept(self) -> dict[str, object]:
        return {"aesthetic": 5.0}

    def dropped(self) -> list[dict[str, object]]:
        return [{"aesthetic": 4.99}, {"aesthetic": None}]


def test_the_threshold_is_five_unless_said_otherwise() -> None:
    assert LaionAesthetics().rule == "aesthetic >= 5"
    assert LaionAesthetics(6.25).rule == "aesthetic >= 6.25"
