"""What every ready-made filter must do, as tests that a member's test class inherits."""

from abc import ABC, abstractmethod
from collections.abc import Collection

import pyarrow as pa
import pytest

from curation.errors import InputError
from curation.filters import Filter, ReadyMade
from curation.selection import available_columns, needed_facts, select_samples
from curation.tables import DUPLICATES, EMBEDDINGS


class ReadyMadeContract(ABC):
    """Subclass it as ``Test…`` and say how it is called, and samples on either side."""

    member: type[ReadyMade]
    scores: Collection[str] = ()
    """Score columns that its rule names."""

    @abstractmethod
    def calls(self) -> list[str]:
        """Give calls that are right, such as ``laion_aesthetics(5)``, the first in use."""

    @abstractmethod
    def wrong_calls(self) -> list[str]:
        """Give calls with arguments that it does not take."""

    @abstractmethod
    def kept(self) -> dict[str, object]:
        """Give facts and scores of a sample that the first call keeps."""

    @abstractmethod
    def dropped(self) -> list[dict[str, object]]:
        """Give facts and scores of samples that the first call drops."""

    def make(self, expression: str) -> Filter:
        """Parse an expression that may call the member."""
        return Filter(expression, {self.member.name: self.member})

    def select(self, expression: str, sample: dict[str, object]) -> list[str]:
        """Give the reasons for which a filter drops a sample."""
        filter_ = self.make(expression)
        known = {"key": "k", "error": None} | sample
        facts = pa.table(
            {f.name: pa.array([known.get(f.name)], f.type) for f in EMBEDDINGS.columns}
        )
        scores = pa.table(
            {"key": ["k"]}
            | {name: pa.array([known.get(name)], pa.float32()) for name in self.scores}
        )
        duplicates = pa.schema(DUPLICATES.columns).empty_table()
        table = select_samples(
            facts.select(needed_facts(filter_)), scores, duplicates, filter_
        )
        (reasons,) = table["reasons"].to_pylist()
        assert table["kept"].to_pylist() == [not reasons]
        return list(reasons)

    def test_its_columns_exist_and_its_kinds_fit(self) -> None:
        for call in self.calls():
            self.make(call).check(available_columns(self.scores))

    def test_a_good_sample_is_kept(self) -> None:
        assert self.select(self.calls()[0], self.kept()) == []

    def test_a_bad_sample_is_dropped_for_a_reason_that_names_the_filter(self) -> None:
        for sample in self.dropped():
            reasons = self.select(self.calls()[0], sample)
            assert reasons
            assert all(r.startswith(f"{self.member.name}(") for r in reasons), reasons

    def test_it_works_inside_a_larger_expression(self) -> None:
        call = self.calls()[0]
        assert self.select(f"not ({call}) or {call}", self.kept()) == []
        for sample in self.dropped():
            assert self.select(f"{call} or key == 'k'", sample) == []
            assert self.select(f"{call} and key == 'k'", sample) != []

    def test_wrong_arguments_are_refused_with_the_call_shown(self) -> None:
        for call in self.wrong_calls():
            with pytest.raises(InputError, match=self.member.name):
                self.make(call)

    def test_its_docstring_says_where_it_is_from(self) -> None:
        assert "Source:" in (self.member.__doc__ or "")
