from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spillway.api.conditions import WantedCondition, merge_conditions
from spillway.api.reasons import ConditionType, Reason
from spillway.api.status import MESSAGE_LIMIT, Condition

READY = WantedCondition(ConditionType.READY, status=True, reason=Reason.RECONCILED)
STARTING = WantedCondition(ConditionType.READY, status=False, reason=Reason.STARTING)
PAUSED = WantedCondition(ConditionType.PAUSED, status=False, reason=Reason.RECONCILED)
BLIND = WantedCondition(
    ConditionType.METRICS_AVAILABLE, status=False, reason=Reason.METRICS_MISSING, message="up == 0"
)

WANTED = st.lists(
    st.builds(
        WantedCondition,
        type=st.sampled_from(ConditionType),
        status=st.sampled_from([True, False, None]),
        reason=st.sampled_from(Reason),
        message=st.text(max_size=20),
    ),
    max_size=12,
)


def _at(conditions: list[Condition]) -> dict[str, str]:
    return {condition.type: condition.last_transition_time[-9:] for condition in conditions}


def test_transition_time_moves_with_the_status_alone() -> None:
    first = merge_conditions([], [STARTING, BLIND], generation=1, now=0)
    second = merge_conditions(first, [READY, BLIND], generation=2, now=60)
    assert _at(second) == {"Ready": "00:01:00Z", "MetricsAvailable": "00:00:00Z"}
    assert [condition.observed_generation for condition in second] == [2, 2]


def test_reason_and_message_change_without_a_transition() -> None:
    first = merge_conditions([], [BLIND], generation=1, now=0)
    told = WantedCondition(
        ConditionType.METRICS_AVAILABLE, status=False, reason=Reason.NO_DATA, message="now 2 m old"
    )
    (second,) = merge_conditions(first, [told], generation=1, now=60)
    assert (second.reason, second.message) == ("NoData", "now 2 m old")
    assert second.last_transition_time == first[0].last_transition_time


def test_not_known_is_a_status_of_its_own() -> None:
    unknown = WantedCondition(ConditionType.READY, status=None, reason=Reason.NO_DATA)
    (condition,) = merge_conditions([], [unknown], generation=1, now=0)
    assert condition.status == "Unknown"


def test_what_is_not_wanted_any_more_goes() -> None:
    first = merge_conditions([], [READY, PAUSED], generation=1, now=0)
    second = merge_conditions(first, [READY], generation=1, now=60)
    assert _at(second) == {"Ready": "00:00:00Z"}


def test_endless_message_is_cut_to_what_the_crd_takes() -> None:
    endless = WantedCondition(
        ConditionType.READY, status=True, reason=Reason.RECONCILED, message="x" * 100_000
    )
    (condition,) = merge_conditions([], [endless], generation=1, now=0)
    assert len(condition.message) == MESSAGE_LIMIT


@given(WANTED, WANTED)
def test_one_of_each_type_in_one_order(
    before: list[WantedCondition], after: list[WantedCondition]
) -> None:
    merged = merge_conditions(merge_conditions([], before, 1, 0), after, 2, 60)
    types = [condition.type for condition in merged]
    assert types == [t.value for t in ConditionType if t in {want.type for want in after}]


@given(WANTED)
def test_merging_the_same_again_changes_nothing(wanted: list[WantedCondition]) -> None:
    first = merge_conditions([], wanted, generation=1, now=0)
    assert merge_conditions(first, wanted, generation=1, now=60) == first
