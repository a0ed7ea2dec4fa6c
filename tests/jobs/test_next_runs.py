"""Which runs come next: stretches of neighbours, phase after phase."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from curation_assets.lineage import DECISION_ASSETS, IMAGE_ASSETS
from jobs.next_runs import NextRun, next_runs
from jobs.plan import Plan

PER_SHARD_ASSETS = (*IMAGE_ASSETS, *DECISION_ASSETS)

ORDER = [f"{n:02d}" for n in range(12)]


def plan_of(due: Mapping[str, list[str]], groups_due: str | None = None) -> Plan:
    causes = {asset: dict.fromkeys(due.get(asset, []), "new") for asset in PER_SHARD_ASSETS}
    return Plan(causes, {"duplicate_groups": groups_due} if groups_due else {})


def test_nothing_due_starts_nothing() -> None:
    assert next_runs(plan_of({}), ORDER, shards_per_run=5) == []


def test_images_come_first_then_the_comparison_then_decisions() -> None:
    everything = dict.fromkeys(PER_SHARD_ASSETS, ORDER)
    first = next_runs(plan_of(everything, "new"), ORDER, shards_per_run=100)
    assert first == [NextRun(IMAGE_ASSETS, tuple(ORDER))]
    decisions = dict.fromkeys(DECISION_ASSETS, ORDER)
    second = next_runs(plan_of(decisions, "new"), ORDER, shards_per_run=100)
    assert second == [NextRun(("duplicate_groups",))]
    third = next_runs(plan_of(decisions), ORDER, shards_per_run=100)
    assert third == [NextRun(DECISION_ASSETS, tuple(ORDER))]


def test_nothing_is_compared_before_there_is_a_shard() -> None:
    assert next_runs(plan_of({}, "new"), [], shards_per_run=5) == []


def test_a_run_begins_at_the_first_asset_that_is_due() -> None:
    plan = plan_of({"embeddings": ["03"], "scores": ["03", "04"]})
    assert next_runs(plan, ORDER, shards_per_run=5) == [
        NextRun(("embeddings", "caption_embeddings", "scores"), ("03",)),
        NextRun(("scores",), ("04",)),
    ]


def test_a_gap_ends_a_run() -> None:
    plan = plan_of({"selection": ["01", "02", "04"]})
    runs = next_runs(plan, ORDER, shards_per_run=5)
    assert [run.shards for run in runs] == [("01", "02"), ("04",)]


def test_busy_shards_are_left_alone_and_waited_for() -> None:
    plan = plan_of({"embeddings": ["01", "02"], "selection": ["05"]}, "new")
    runs = next_runs(plan, ORDER, shards_per_run=5, busy={"01"})
    assert [run.shards for run in runs] == [("02",)]
    assert next_runs(plan, ORDER, shards_per_run=5, busy={"01", "02"}) == []


def test_shards_that_are_put_off_do_not_hold_up_the_others() -> None:
    plan = plan_of({"embeddings": ["01"], "selection": ["01", "05"]}, "new")
    runs = next_runs(plan, ORDER, shards_per_run=5, put_off={"01"})
    assert runs == [NextRun(("duplicate_groups",))]
    plan = plan_of({"embeddings": ["01"], "selection": ["01", "05"]})
    runs = next_runs(plan, ORDER, shards_per_run=5, put_off={"01"})
    assert [run.shards for run in runs] == [("05",)]


def test_the_range_is_told_by_its_ends() -> None:
    tags = NextRun(("scores",), ("02", "03", "04")).tags
    assert set(tags.values()) == {"02", "04"}
    assert NextRun(("duplicate_groups",)).tags == {}


@given(
    st.dictionaries(st.sampled_from(IMAGE_ASSETS), st.sets(st.sampled_from(ORDER))),
    st.sets(st.sampled_from(ORDER)),
    st.integers(1, 12),
)
def test_every_due_shard_is_in_one_run_of_neighbours(
    due: dict[str, set[str]], busy: set[str], longest: int
) -> None:
    plan = plan_of({asset: sorted(shards) for asset, shards in due.items()})
    runs = next_runs(plan, ORDER, shards_per_run=longest, busy=busy)
    taken = [shard for run in runs for shard in run.shards]
    assert sorted(taken) == sorted(set().union(*due.values()) - busy)
    for run in runs:
        first = ORDER.index(run.shards[0])
        assert list(run.shards) == ORDER[first : first + len(run.shards)]
        assert len(run.shards) <= longest
        assert all(shard in due[run.assets[0]] for shard in run.shards)
